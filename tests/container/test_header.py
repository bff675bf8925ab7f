"""The header reader against the gguf package and against files put together by hand."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf as gguf_package
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxmix.container.header import read_header
from qxmix.errors import ModelFileError
from qxmix.quants import QUANT_TYPES
from tests.gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    STRING,
    U8,
    U32,
    array,
    field,
    gguf,
    small_model,
    string,
    strings_field,
    tensor,
    text_field,
    u32_field,
)

NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=40)
SCALARS = {
    "uint8": st.integers(0, 2**8 - 1), "int8": st.integers(-(2**7), 2**7 - 1),
    "uint16": st.integers(0, 2**16 - 1), "int16": st.integers(-(2**15), 2**15 - 1),
    "uint32": st.integers(0, 2**32 - 1), "int32": st.integers(-(2**31), 2**31 - 1),
    "uint64": st.integers(0, 2**64 - 1), "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32, allow_nan=False), "float64": st.floats(allow_nan=False),
    "bool": st.booleans(), "string": st.text(max_size=30),
}  # fmt: skip
VALUES = st.one_of(*(st.tuples(st.just(kind), values) for kind, values in SCALARS.items()))
ARRAYS = st.tuples(
    st.just("array"),
    st.one_of(
        st.lists(st.text(max_size=9), min_size=1, max_size=9),
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9),
        st.lists(st.booleans(), min_size=1, max_size=9),
    ),
)
TENSORS = st.dictionaries(
    NAMES,
    st.tuples(st.sampled_from(["f4", "f2", "i4"]), st.lists(st.integers(1, 5), min_size=1, max_size=4)),
    max_size=6,
)


def write_with_package(
    path: Path, metadata: dict[str, tuple[str, Any]], tensors: dict[str, tuple[str, list[int]]], alignment: int | None
) -> None:
    writer = gguf_package.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, (kind, value) in metadata.items():
        getattr(writer, f"add_{kind}")("k." + key, value)
    for name, (dtype, shape) in tensors.items():
        writer.add_tensor(name, np.ones(shape, dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, st.one_of(VALUES, ARRAYS), max_size=8), TENSORS, st.sampled_from([None, 8, 64, 4096]))
def test_reads_what_the_package_writes(
    tmp_path: Path, metadata: dict[str, Any], tensors: dict[str, Any], alignment: int | None
) -> None:
    path = tmp_path / "model.gguf"
    write_with_package(path, metadata, tensors, alignment)
    header = read_header(path)
    reader = gguf_package.GGUFReader(path)
    assert header.alignment == reader.alignment
    assert header.architecture == "llama"
    ours = {f.key: f for f in header.metadata}
    theirs = {key: f for key, f in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(ours) == list(theirs)
    for key, their in theirs.items():
        assert ours[key].value_type == their.types[0]
        assert ours[key].raw == b"".join(part.tobytes() for part in their.parts)
        if their.types[0] == ARRAY:
            assert ours[key].array == (their.types[-1], len(their.data))
            assert ours[key].value is None
        else:
            assert ours[key].value == their.contents()
    blob = path.read_bytes()
    assert len(header.tensors) == len(reader.tensors)
    for our, other in zip(header.tensors, reader.tensors, strict=True):
        dims = [int(d) for d in other.shape]
        while len(dims) > 1 and dims[-1] == 1:
            dims.pop()
        assert (our.name, our.shape, our.type_id, our.offset, our.nbytes) == (
            other.name, tuple(dims), other.tensor_type, other.data_offset, other.n_bytes)  # fmt: skip
        assert blob[our.offset : our.offset + our.nbytes] == other.data.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("quant_type", QUANT_TYPES, ids=lambda t: t.name)
def test_every_type_of_both_engines_has_its_size(quant_type: Any, tmp_path: Path) -> None:
    n_cols, n_rows = 2 * quant_type.block_size, 16
    nbytes = n_rows * (quant_type.row_meta_nbytes + 2 * quant_type.block_nbytes)
    path = write(tmp_path / "m.gguf", gguf([], [tensor("a", (n_cols, n_rows), quant_type.id)], bytes(nbytes)))
    (read,) = read_header(path).tensors
    assert (read.type, read.nbytes, read.n_cols, read.n_rows) == (quant_type.name, nbytes, n_cols, n_rows)


def test_unknown_types_are_opaque_up_to_the_next_tensor(tmp_path: Path) -> None:
    table = [tensor("last", (256,), 142, 96), tensor("first", (7, 3), 500, 0), tensor("f32", (8,), 0, 64)]
    tensors = read_header(write(tmp_path / "m.gguf", gguf([], table, bytes(133)))).tensors
    assert [(t.name, t.type, t.nbytes) for t in tensors] == [
        ("last", "UNKNOWN_142", 37), ("first", "UNKNOWN_500", 64), ("f32", "F32", 32)]  # fmt: skip
    assert tensors[0].quant_type is None


def test_version_2_and_a_scalar_without_dimensions(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", gguf([u32_field("k", 5)], [tensor("scale", (), 0)], bytes(4), version=2))
    header = read_header(path)
    assert header.get("k") == 5
    assert (header.tensors[0].shape, header.tensors[0].nbytes) == ((1,), 4)


def test_trailing_dimensions_of_one_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", gguf([], [tensor("a", (4, 1, 2, 1)), tensor("b", (1, 1), 0, 32)], bytes(64)))
    assert [t.shape for t in read_header(path).tensors] == [(4, 1, 2), (1,)]


def test_a_file_may_end_with_the_last_weight_or_without_any(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", gguf([], [tensor("a", (9,))], bytes(36)))
    assert read_header(path).tensors[0].nbytes == 36
    assert read_header(write(path, gguf([u32_field("k", 1)])[:-3])).tensors == ()


def test_values_that_are_not_text_do_not_stop_a_model(tmp_path: Path) -> None:
    fields = [text_field("author", b"Andr\xe9"), field("b", BOOL, b"\2"), field("nan", F32, struct.pack("<f", np.nan))]
    header = read_header(write(tmp_path / "m.gguf", gguf(fields)))
    assert header.get("author") == "Andr\ufffd"
    assert header.metadata[0].raw.endswith(b"Andr\xe9")
    assert header.get("b") is True
    assert header.get("nothing") is None


def test_nested_arrays_are_carried_over(tmp_path: Path) -> None:
    inner = array(STRING, 2, string("a") + string("bc")) + array(U8, 3, b"123")
    nested = field("k", ARRAY, array(ARRAY, 2, inner))
    header = read_header(write(tmp_path / "m.gguf", gguf([nested, u32_field("after", 7)])))
    assert header.metadata[0].raw == nested
    assert header.metadata[0].array == (ARRAY, 2)
    assert header.get("after") == 7


def test_a_string_array_may_hold_long_and_empty_strings(tmp_path: Path) -> None:
    values = ["", "x" * 70000, "", "é"]
    header = read_header(write(tmp_path / "m.gguf", gguf([strings_field("k", values), u32_field("after", 7)])))
    assert header.metadata[0].array == (STRING, 4)
    assert header.get("after") == 7


@pytest.mark.parametrize("cut", range(1, 240, 7))
def test_a_file_cut_anywhere_is_refused(cut: int, tmp_path: Path) -> None:
    whole = gguf(
        [text_field("general.architecture", "llama"), strings_field("k", ["a", "b"]), field("u", U32, b"\1\0\0\0")],
        [tensor("a.weight", (8, 2)), tensor("b.weight", (8,), 0, 64)], bytes(96),
    )  # fmt: skip
    path = write(tmp_path / "m.gguf", whole)
    assert len(read_header(path).tensors) == 2
    write(path, whole[:-cut])
    with pytest.raises(ModelFileError, match=r"cut off|more than a file"):
        read_header(path)


def write_large(path: Path, n_tensors: int, vocabulary: int) -> None:
    """A model of real size whose weights are a hole in the file."""
    tokens = b"".join(string(f"token{i:07d}") for i in range(vocabulary))
    merges = b"".join(string(f"a{i:05d} b{i:05d}") for i in range(vocabulary))
    fields = [
        text_field("general.architecture", "deepseek2"),
        field("tokenizer.ggml.tokens", ARRAY, array(STRING, vocabulary, tokens)),
        field("tokenizer.ggml.merges", ARRAY, array(STRING, vocabulary, merges)),
    ]
    nbytes = 7168 * 2048 * 2
    table = [tensor(f"blk.{i}.ffn_up.weight", (7168, 2048), 30, i * nbytes) for i in range(n_tensors)]
    with path.open("wb") as file:
        file.write(gguf(fields, table))
        file.truncate(file.tell() + n_tensors * nbytes)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_large_header_is_read_at_once_and_in_little_memory(tmp_path: Path) -> None:
    """The size of DeepSeek-V3: 1,086 tensors, 129,280 tokens and as many merges; 25 ms and 25 MB were measured."""
    path = tmp_path / "large.gguf"
    write_large(path, 1086, 129280)
    code = (
        "import re, sys, time; from pathlib import Path; from qxmix.container.header import read_header\n"
        "t = time.process_time(); h = read_header(Path(sys.argv[1])); t = time.process_time() - t\n"
        "assert not {'numpy', 'numba', 'gguf', 'rich'} & set(sys.modules), 'heavy imports'\n"
        "print(len(h.tensors), t, re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    n_tensors, seconds, peak_kib = done.stdout.split()
    assert int(n_tensors) == 1086
    assert float(seconds) < 0.15
    assert int(peak_kib) < 60 * 1024


def test_the_small_model_of_these_tests_is_sound(tmp_path: Path) -> None:
    assert len(gguf_package.GGUFReader(write(tmp_path / "m.gguf", small_model(names=("a", "b")))).tensors) == 2
