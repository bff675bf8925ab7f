"""Model files that are wrong in one way each: one clear error that says what to do, and no large allocation."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import pytest

from qxmix.container.header import read_header
from qxmix.errors import ModelFileError, QxmixError
from tests.gguf_bytes import (
    ARRAY,
    BOOL,
    STRING,
    U8,
    U32,
    U64,
    array,
    dat,
    dat_entry,
    field,
    gguf,
    imatrix_gguf,
    small_model,
    string,
    tensor,
    text_field,
    u32_field,
)

if TYPE_CHECKING:
    from pathlib import Path

HUGE = (1 << 64) - 1
F32_DATA = bytes(64)
AGAIN = "download or convert it again"

HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is empty \(0 bytes\); .* run it again"),
    "magic alone": (b"GGUF", r"is cut off: 4 bytes cannot hold a GGUF header"),
    "head cut": (gguf()[:20], r"is cut off: 20 bytes cannot hold"),
    "version 1": (gguf(version=1), r"is GGUF version 1, .*convert_hf_to_gguf.py"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64), r"big-endian .*gguf-convert-endian FILE little"),
    "version of the future": (gguf(version=77), r"is GGUF version 77, and qxmix reads 2 and 3"),
    "version 0": (gguf(version=0), r"is GGUF version 0"),
    "fields beyond the file": (gguf(n_fields=1 << 40), r"claims 1099511627776 metadata fields, more than a file of"),
    "tensors beyond the file": (gguf(n_tensors=HUGE), r"claims 18446744073709551615 tensors, more than a file of"),
    "one field too many": (gguf([u32_field("k", 1)], n_fields=2, data=bytes(32)), r"metadata field 1 is empty"),
    "key length beyond the file": (
        gguf([struct.pack("<Q", HUGE) + bytes(40)]), r"key of metadata field 0 takes 184467"),
    "key is empty": (gguf([field("", U8, b"\1")], data=bytes(32)), r"key of metadata field 0 is empty"),
    "key is not UTF-8": (gguf([field(b"\xff\xfe", U8, b"\1")]), r"key of metadata field 0 is not UTF-8: .*xff"),
    "key has control characters": (gguf([field("a\x1b[2Jb", U8, b"\1")]), r"control characters: 'a\\x1b\[2Jb'"),
    "key twice": (gguf([u32_field("k", 1), u32_field("k", 2)]), r"has the metadata key 'k' twice"),
    "value type unknown": (gguf([field("k", 99, bytes(16))]), r"'k' has value type 99, which GGUF does not define"),
    "string beyond the file": (gguf([field("k", STRING, struct.pack("<Q", 1 << 50))]), r"'k' takes 1125899906842624 b"),
    "scalar cut off": (gguf([field("k", U64, b"")])[:40], r"is cut off or damaged: .*8 bytes and 3 are left"),
    "array of unknown type": (gguf([field("k", ARRAY, array(99, 1, bytes(8)))]), r"'k' is an array of value type 99"),
    "array longer than the file": (gguf([field("k", ARRAY, array(U32, 1 << 61, b""))]), r"'k' takes \d{19} bytes"),
    "strings more than the file holds": (
        gguf([field("k", ARRAY, array(STRING, 1 << 60, b""))]), r"'k' claims 1152921504606846976 elements"),
    "string of an array beyond the file": (
        gguf([field("k", ARRAY, array(STRING, 2, string("a") + struct.pack("<Q", HUGE)))]), r"is cut off or damaged"),
    "length of a string of an array cut off": (
        gguf([field("k", ARRAY, array(STRING, 2, string("12345678") + b"\1\0\0\0"))], alignment=1),
        r"'k' takes 21 bytes and 20 are left"),
    "last string of an array beyond the file": (
        gguf([field("k", ARRAY, array(STRING, 1, struct.pack("<Q", 4000)))]), r"'k' takes 4008 bytes"),
    "arrays nested too deep": (
        gguf([field("k", ARRAY, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1, b"")))))
             + bytes(64))]), r"nests arrays more than 4 deep"),
    "nested arrays more than the file holds": (
        gguf([field("k", ARRAY, array(ARRAY, 1 << 59, b""))]), r"'k' claims 576460752303423488 elements"),
    "alignment 0": (gguf([u32_field("general.alignment", 0)]), r"general.alignment is 0; it must be a power of two"),
    "alignment 48": (gguf([u32_field("general.alignment", 48)]), r"general.alignment is 48; it must be a power"),
    "alignment 2 GiB": (gguf([u32_field("general.alignment", 1 << 31)]), r"general.alignment is 2147483648"),
    "alignment is text": (gguf([text_field("general.alignment", "32")]), r"general.alignment is value type 8"),
    "alignment is bool": (gguf([field("general.alignment", BOOL, b"\1")]), r"general.alignment is value type 7"),
    "tensor name is empty": (gguf([], [tensor("", (8,))], F32_DATA), r"name of tensor 0 is empty"),
    "tensor name is not UTF-8": (gguf([], [tensor(b"\x80.weight", (8,))], F32_DATA), r"tensor 0 is not UTF-8"),
    "tensor name has a newline": (gguf([], [tensor("a\nb", (8,))], F32_DATA), r"control characters: 'a\\nb'"),
    "tensor name beyond the file": (
        gguf([], [struct.pack("<Q", 1 << 40) + bytes(64)]), r"tensor 0 takes 1099511627776"),
    "tensor twice": (
        gguf([], [tensor("a", (8,)), tensor("a", (8,), 0, 32)], F32_DATA), r"has the tensor 'a' twice"),
    "five dimensions": (gguf([], [tensor("a", (1,) * 5)], F32_DATA), r"'a' has 5 dimensions, GGUF allows 4"),
    "no weights": (gguf([], [tensor("a", (8, 0))], F32_DATA), r"'a' has the impossible shape 8 x 0"),
    "shape overflows": (gguf([], [tensor("a", (1 << 40, 1 << 40))], F32_DATA), r"'a' has the impossible shape 109951"),
    "shape wraps to a small size": (
        gguf([], [tensor("a", (1 << 32, 1 << 32))], F32_DATA), r"impossible shape 4294967296"),
    "row is not whole blocks": (
        gguf([], [tensor("a", (48, 2), 2)], F32_DATA),
        r"'a' has rows of 48 weights, no whole number of Q4_0 blocks of 32"),
    "offset is not aligned": (gguf([], [tensor("a", (8,), 0, 8)], F32_DATA), r"'a' starts at 8, no multiple of 32"),
    "offset is not aligned to the file's own": (
        gguf([u32_field("general.alignment", 64)], [tensor("a", (8,), 0, 32)], bytes(128), alignment=64),
        r"'a' starts at 32, no multiple of 64"),
    "offset beyond the file": (
        gguf([], [tensor("a", (8,), 0, 1 << 40)], F32_DATA), r"is cut off: tensor 'a' ends at byte"),
    "offset wraps": (
        gguf([], [tensor("a", (8,), 0, HUGE - 31)], F32_DATA), r"is cut off: tensor 'a' ends at byte 184467"),
    "data cut off": (
        gguf([], [tensor("a", (64, 64))], F32_DATA), r"'a' ends at byte 16480 and the file has 160; " + AGAIN),
    "tensors overlap": (
        gguf([], [tensor("a", (16,)), tensor("b", (8,), 0, 32)], F32_DATA), r"tensors 'a' and 'b' overlap"),
    "tensors at the same place": (gguf([], [tensor("a", (8,)), tensor("b", (8,))], F32_DATA), r"tensors .* overlap"),
    "unknown type without data": (
        gguf([], [tensor("a", (8,), 777), tensor("b", (8,))], F32_DATA), r"'a' of unknown type 777 has no data"),
    "table cut off": (gguf([], [tensor("a", (8, 8), 0, 0)])[:56], r"is cut off or damaged: the tensor table takes"),
    "imatrix as GGUF": (
        imatrix_gguf([tensor("a.in_sum2", (8,)), tensor("a.counts", (1,), 0, 32)], F32_DATA),
        r"is an importance matrix, not a model; give it as --imatrix"),
    "imatrix as .dat": (dat([dat_entry("blk.0.attn_q.weight", [1.0] * 4)]), r"is an importance matrix, not a model"),
    "safetensors": (struct.pack("<Q", 2) + b"{}" + bytes(32), r"is a safetensors file, not GGUF; .*convert_hf_to_gguf"),
    "pickle": (
        b"\x80\x02}q\x00." + bytes(32), r"is a Python pickle, probably a PyTorch checkpoint; .*convert_hf_to_gguf"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(32), r"is an HDF5 file"),
    "NumPy": (b"\x93NUMPY\1\0" + bytes(32), r"is a NumPy array"),
    "GGML of 2023": (b"lmgg" + bytes(32), r"older than GGUF"),
    "GGJT of 2023": (b"tjgg" + bytes(32), r"older than GGUF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(32), r"compressed with gzip; decompress it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(32), r"compressed with zstd; decompress it first"),
    "Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"Git LFS pointer.*`git lfs pull`"),
    "web page": (b"<!DOCTYPE html><html>", r"is a web page .* the download went wrong, try it again"),
    "zeros": (bytes(4096), r"starts with zeros: a file whose writing was interrupted"),
    "recipe": (b"qxmix: 1\nname: x\n", r"is a recipe; where a command takes recipe and model, the recipe comes first"),
    "text": (b"hello, world\n" * 9, r"is plain text; check the path"),
    "noise": (bytes(range(200, 256)), r"is no GGUF file \(first bytes c8 c9 ca cb\); check the path"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_gets_one_clear_error(kind: str, tmp_path: Path) -> None:
    content, text = HOSTILE[kind]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=text) as caught:
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert "\n" not in str(problem)
    assert problem.text.isprintable()
    assert len(problem.text) < 400


def test_a_zip_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(ModelFileError, match=r"zip archive, probably a PyTorch checkpoint; .*convert_hf_to_gguf.py"):
        read_header(path)


def test_a_name_can_tell_a_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelFileError, match="is a safetensors file"):
        read_header(path)


def test_no_such_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "llama-f16.gguf").write_bytes(small_model())
    with pytest.raises(ModelFileError, match=r"no such file; did you mean 'llama-f16.gguf'\?"):
        read_header(tmp_path / "lama-f16.gguf")
    with pytest.raises(ModelFileError, match="no such file; check the path of the model"):
        read_header(tmp_path / "x")
    (tmp_path / "large-00001-of-00012.gguf").write_bytes(small_model())
    with pytest.raises(ModelFileError, match=r"no such file; did you mean 'large-00001-of-00012.gguf'\?"):
        read_header(tmp_path / "large.gguf")
    with pytest.raises(ModelFileError, match=r"no such file, nor is there a folder .*gone"):
        read_header(tmp_path / "gone" / "x.gguf")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to("../blobs/abc")
    with pytest.raises(ModelFileError, match=r"is a link to '../blobs/abc', which does not exist; download"):
        read_header(tmp_path / "model.gguf")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder; give the model's file"):
        read_header(tmp_path)
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelFileError, match=r"is a folder; give the file in it, such as 'b\.gguf'"):
        read_header(tmp_path)
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelFileError, match=r"Hugging Face format; .*convert_hf_to_gguf.py FOLDER"):
        read_header(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="is no regular file but a pipe or device"):
        read_header(tmp_path / "pipe")


@pytest.mark.skipif(getattr(os, "geteuid", bool)() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(small_model())
    path.chmod(0)
    with pytest.raises(ModelFileError, match=r"permission denied\); change its mode"):
        read_header(path)


@pytest.mark.parametrize(
    ("path", "text"),
    [("a\0b.gguf", "cannot be read: .*null"), ("a" * 300, "cannot be read: file name too long")],
)
def test_paths_that_cannot_be(path: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=text) as caught:
        read_header(tmp_path / path)
    assert "\0" not in str(caught.value)


def test_permission_denied_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(small_model())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(QxmixError, match=r"permission denied\); change its mode"):
        read_header(path)
