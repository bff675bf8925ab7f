"""Importance matrix files that are wrong in one way each: one clear error, and no large allocation."""

from __future__ import annotations

import re
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from qxmix.container.header import read_header
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.moments_load import load_moments
from qxmix.errors import ModelFileError
from tests.gguf_bytes import (
    I32,
    U64,
    dat,
    dat_entry,
    dat_trailer,
    field,
    gguf,
    imatrix_gguf,
    small_model,
    tensor,
    u32_field,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAN, INF = float("nan"), float("inf")
E = dat_entry("blk.0.attn_q.weight", [1.0, 2.0])
BIG = (1 << 31) - 1


def gguf_values(sums: list[float], counts: list[float]) -> bytes:
    table = [tensor("a.in_sum2", (len(sums),)), tensor("a.counts", (len(counts),), 0, 64)]
    return imatrix_gguf(table, struct.pack(f"<{len(sums)}f", *sums).ljust(64, b"\0") + struct.pack("<f", *counts))


def gguf_with(key: str, value_type: int, payload: bytes) -> bytes:
    table = [tensor("a.in_sum2", (1,)), tensor("a.counts", (1,), 0, 32)]
    return imatrix_gguf(table, bytes(36), key, [field(key, value_type, payload)])


NO_MATRIX = r"is no importance matrix, neither a GGUF one nor a legacy .dat; give the file that llama-imatrix wrote"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "four bytes": (struct.pack("<i", 1), NO_MATRIX),
    "noise": (bytes(range(200, 256)), NO_MATRIX),
    "no entries": (dat([E], n_entries=0), NO_MATRIX),
    "negative entries": (dat([E], n_entries=-1), NO_MATRIX),
    "entries beyond the file": (dat([E], n_entries=BIG), NO_MATRIX),
    "one entry too many": (dat([E, E, E], n_entries=4), r"is cut off or damaged: the name of entry 4 of 4 takes"),
    "first name is binary": (dat([dat_entry(b"\x01\x02", [1.0])]), NO_MATRIX),
    "first name is empty": (dat([dat_entry("", [1.0])]), NO_MATRIX),
    "second name is empty": (dat([E, dat_entry("", [1.0])]), r"the name of entry 2 of 2 is empty"),
    "second name is not UTF-8": (dat([E, dat_entry(b"\xff", [1.0])]), r"the name of entry 2 of 2 is not UTF-8"),
    "second name has control characters": (dat([E, dat_entry("a\nb", [1.0])]), r"control characters: 'a\\nb'"),
    "name beyond the file": (dat([E, struct.pack("<i", BIG) + bytes(16)]), r"entry 2 of 2 takes 2147483647 bytes and"),
    "name of negative length": (
        dat([E, struct.pack("<i", -1) + bytes(16)]), r"entry 2 of 2 takes 4294967295 bytes and"),
    "no values": (dat([dat_entry("a.weight", [], n_values=0), bytes(8)]), r"entry 1 of 2, 'a.weight', claims 0 values"),
    "negative values": (dat([dat_entry("a.w", [1.0], n_values=-5)]), r"entry 1 of 1, 'a.w', claims -5 values"),
    "values beyond the file": (
        dat([dat_entry("a.w", [1.0], n_values=BIG)]), r"'a.w', takes 8589934588 bytes and 4 are"),
    "cut in the values": (dat([E])[:-2], r"'blk.0.attn_q.weight', takes 8 bytes and 6 are left"),
    "NaN": (dat([E, dat_entry("a.w", [1.0, NAN])]), r"value 1 of 'a.w' is nan, no finite number of 0 or more"),
    "signalling NaN": (
        dat([dat_entry("a.w", [1.0, 2.0], 3)])[:-4] + bytes.fromhex("0100a07f"), r"value 1 of 'a.w' is nan, no finite"),
    "infinity": (dat([dat_entry("a.w", [1.0, 2.0, INF])]), r"value 2 of 'a.w' is inf, no finite number"),
    "negative": (dat([dat_entry("a.w", [-0.5])]), r"value 0 of 'a.w' is -0.5, no finite number of 0 or more"),
    "chunks cut": (dat([E], b"\1\0"), r"is cut off or damaged: the number of chunks takes 4 bytes and 2 are left"),
    "dataset beyond the file": (dat([E], struct.pack("<ii", 1, 99)), r"the dataset's name takes 99 bytes and 0 are"),
    "more behind the end": (
        dat([E], dat_trailer(1, "x") + bytes(9)), r"has 9 bytes behind its end; the file is damaged"),
    "a model": (small_model(), r"is a model, not an importance matrix; give the file that llama-imatrix wrote"),
    "GGUF without its keys": (
        imatrix_gguf([tensor("a.in_sum2", (2,)), tensor("a.counts", (1,), 0, 32)], bytes(36), "imatrix.chunk_size"),
        r"is GGUF but no importance matrix: it lacks imatrix.chunk_size"),
    "GGUF of something else": (
        gguf([u32_field("x", 1)]), r"it lacks imatrix.datasets, imatrix.chunk_count, imatrix.ch"),
    "GGUF without entries": (imatrix_gguf([], b""), r"it lacks any tensor named [*].in_sum2"),
    "sums without counts": (imatrix_gguf([tensor("a.in_sum2", (2,))], bytes(8)), r"has 'a' without its .counts"),
    "counts without sums": (imatrix_gguf([tensor("a.counts", (2,))], bytes(8)), r"has 'a' without its .in_sum2"),
    "sums are F16": (
        imatrix_gguf([tensor("a.in_sum2", (2,), 1), tensor("a.counts", (1,), 0, 32)], bytes(36)),
        r"tensor 'a.in_sum2' is F16 and must be F32"),
    "counts are of unknown type": (
        imatrix_gguf([tensor("a.in_sum2", (2,)), tensor("a.counts", (1,), 999, 32)], bytes(36)),
        r"tensor 'a.counts' is UNKNOWN_999 and must be F32"),
    "too many counts": (
        imatrix_gguf([tensor("a.in_sum2", (2, 3)), tensor("a.counts", (1, 2), 0, 32)], bytes(40)),
        r"has 2 counts for the 3 matrices of 'a'"),
    "GGUF sum is NaN": (gguf_values([1.0, NAN], [2.0]), r"value 1 of 'a' is nan"),
    "GGUF sum is negative": (gguf_values([1.0, -4.0], [2.0]), r"value 1 of 'a' is -2.0"),
    "GGUF count is NaN": (gguf_values([1.0], [NAN]), r"value 0 of 'a.counts' is nan"),
    "GGUF count is negative": (gguf_values([1.0], [-1.0]), r"value 0 of 'a.counts' is -1.0"),
    "GGUF quotient overflows": (gguf_values([3e38], [0.125]), r"value 0 of 'a' is inf"),
    "GGUF of more chunks than there can be": (
        gguf_with("imatrix.chunk_count", U64, struct.pack("<Q", 1 << 63)),
        r"imatrix.chunk_count is 9223372036854775808, no number from 0 to 4294967295; the file is damaged"),
    "GGUF of negative chunks": (
        gguf_with("imatrix.chunk_size", I32, struct.pack("<i", -5)), r"imatrix.chunk_size is -5, no number from 0 to"),
    "GGUF cut off": (gguf_values([1.0], [1.0])[:-2], r"is cut off: tensor 'a.counts' ends at byte"),
    "GGUF of version 1": (gguf(version=1), r"is GGUF version 1"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", r"is a Git LFS pointer.*`git lfs pull`"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", r"is a safetensors file, not GGUF; give the file that llama-imatrix"),
    "calibration text": (b"The quick brown fox.\n", r"is plain text; check the path"),
    "gzip": (b"\x1f\x8b" + bytes(20), r"is compressed with gzip; decompress it first"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_gets_one_clear_error(kind: str, tmp_path: Path) -> None:
    content, text = HOSTILE[kind]
    path = tmp_path / "m.imatrix"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=text) as caught:
            load_imatrix(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert problem.text.isprintable()
    assert len(problem.text) < 400


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file; check the path of the importance matrix"):
        load_imatrix(tmp_path / "m.dat")
    with pytest.raises(ModelFileError, match="is a folder; give the importance matrix's file"):
        load_imatrix(tmp_path)


@pytest.mark.parametrize(
    ("load", "again"),
    [
        (load_imatrix, "download or make it again"),
        (load_moments, "make it again with 'qxmix imatrix make --moments'"),
        (read_header, "download or convert it again"),
    ],
)  # fmt: skip
def test_what_helps_is_that_of_the_role_whatever_a_name_says(
    load: Callable[[Path], object], again: str, tmp_path: Path
) -> None:
    """Names come from the file: one with the words of a remedy is told as it is."""
    name = "is empty (0 bytes); download or convert it again"
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([], [tensor(name, (32,)), tensor(name, (32,))], bytes(256)))
    with pytest.raises(ModelFileError, match=re.escape(f"'{name}' twice; the file is damaged: {again}")):
        load(path)
    path.write_bytes(gguf([], [tensor(name, (32,))], bytes(4)))
    with pytest.raises(ModelFileError, match=re.escape(f"the file has 132; {again}")):
        load(path)
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match=re.escape(f"cannot hold a GGUF header; {again}")):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"is empty \(0 bytes\); (the download or conversion|make it again with)"):
        load(path)
