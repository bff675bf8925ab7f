"""Which metadata the output has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.header import read_header
from qxmix.container.imatrix import Imatrix
from qxmix.container.output_metadata import output_metadata
from qxmix.errors import RunError
from tests.gguf_bytes import ARRAY, I32, STRING, U32, field, gguf, strings_field, text_field, u32_field

if TYPE_CHECKING:
    from qxmix.container.model import MetadataField


def parsed(tmp_path: Path, *fields: bytes) -> tuple[MetadataField, ...]:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(fields))
    return read_header(path).metadata


def imatrix(datasets: tuple[str, ...] = ("calib.txt", "b.txt"), n_chunks: int = 60, name: str = "m.dat") -> Imatrix:
    return Imatrix(
        Path("/some/where") / name, "", {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}, datasets, n_chunks
    )


def values(fields: tuple[MetadataField, ...]) -> list[tuple[str, object]]:
    return [(f.key, f.value) for f in fields]


def test_made_fields_are_read_back(tmp_path: Path) -> None:
    made = [
        make_field("s", "héé", ValueType.STRING),
        make_field("u16", 7, ValueType.UINT16),
        make_field("f", 0.5, ValueType.FLOAT32),
        make_field("b", True, ValueType.BOOL),
        make_field("i64", -(2**63), ValueType.INT64),
        make_field("words", ["", "a"], ValueType.ARRAY, ValueType.STRING),
        make_field("numbers", [1, 2, 3], ValueType.ARRAY, ValueType.UINT8),
    ]
    assert parsed(tmp_path, *(f.raw for f in made)) == tuple(made)


@pytest.mark.parametrize(
    ("value", "value_type"),
    [
        (1 << 32, ValueType.UINT32), (1 << 64, ValueType.UINT64), (-1, ValueType.UINT16), (1 << 31, ValueType.INT32),
        (1e39, ValueType.FLOAT32),
    ],
)  # fmt: skip
def test_a_number_that_its_field_cannot_hold_is_told(value: float, value_type: ValueType) -> None:
    with pytest.raises(RunError, match=f"a.b would be .*, which a field of type {value_type.name} cannot hold"):
        make_field("a.b", value, value_type)


def test_a_name_that_is_no_text_can_be_noted() -> None:
    assert b"calib?.txt" in make_field("s", "calib\udcff.txt", ValueType.STRING).raw


def test_fields_are_carried_over_as_bytes_and_changed_in_place(tmp_path: Path) -> None:
    arrays = [strings_field("tokens", ["a", "b"]), field("x", ARRAY, bytes([4, 0, 0, 0]) + bytes(8))]
    name = text_field("general.name", b"Andr\xe9")
    source = parsed(
        tmp_path, text_field("general.architecture", "llama"), u32_field("general.file_type", 1), name,
        u32_field("general.quantization_version", 1), *arrays,
    )  # fmt: skip
    made = output_metadata(source, 15)
    assert [f.raw for f in made] == [
        text_field("general.architecture", "llama"), u32_field("general.file_type", 15), name,
        u32_field("general.quantization_version", 2), *arrays,
    ]  # fmt: skip


def test_new_keys_go_to_the_end_in_order(tmp_path: Path) -> None:
    made = output_metadata(
        parsed(tmp_path, u32_field("k", 1)), 2, imatrix(), provenance={"qxmix.b": "x", "qxmix.a": "y"}
    )
    assert values(made) == [
        ("k", 1),
        ("general.quantization_version", 2),
        ("general.file_type", 2),
        ("quantize.imatrix.file", "m.dat"),
        ("quantize.imatrix.dataset", "calib.txt"),
        ("quantize.imatrix.entries_count", 2),
        ("quantize.imatrix.chunks_count", 60),
        ("qxmix.b", "x"),
        ("qxmix.a", "y"),
    ]


def test_a_file_type_of_none_drops_the_key(tmp_path: Path) -> None:
    assert values(output_metadata(parsed(tmp_path, u32_field("general.file_type", 1)), None)) == [
        ("general.quantization_version", 2)]  # fmt: skip


def test_what_described_the_input_alone_is_dropped(tmp_path: Path) -> None:
    source = parsed(
        tmp_path, text_field("quantize.imatrix.file", "old.dat"), u32_field("quantize.imatrix.chunks_count", 5),
        text_field("qxmix.recipe", "old"), u32_field("split.no", 0), u32_field("splitting", 3),
    )  # fmt: skip
    assert values(output_metadata(source, None)) == [("splitting", 3), ("general.quantization_version", 2)]
    again = output_metadata(source, None, imatrix((), 0), provenance={"qxmix.recipe": "new"})
    assert values(again) == [
        ("quantize.imatrix.file", "m.dat"), ("qxmix.recipe", "new"), ("splitting", 3),
        ("general.quantization_version", 2), ("quantize.imatrix.entries_count", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("engine", "value_type"), [("llama.cpp", U32), ("ik_llama.cpp", I32)])
def test_integers_have_the_type_of_the_engine(engine: str, value_type: int) -> None:
    made = output_metadata((), None, imatrix(), "llama.cpp" if engine == "llama.cpp" else "ik_llama.cpp")
    types = {f.key: f.value_type for f in made}
    assert types["quantize.imatrix.entries_count"] == types["quantize.imatrix.chunks_count"] == value_type
    assert types["quantize.imatrix.file"] == STRING
    assert types["general.quantization_version"] == U32


@pytest.mark.parametrize(("n_chunks", "noted"), [(0, False), ((1 << 31) - 1, True), (1 << 31, False)])
def test_chunks_are_noted_where_the_engines_can_count_them(n_chunks: int, noted: bool) -> None:
    for engine in ("llama.cpp", "ik_llama.cpp"):
        keys = {f.key for f in output_metadata((), None, imatrix(n_chunks=n_chunks), engine)}
        assert ("quantize.imatrix.chunks_count" in keys) == noted


def test_strings_of_the_imatrix_fit_the_engines_field() -> None:
    made = {f.key: f.value for f in output_metadata((), None, imatrix(("é" * 100,), name="x" * 200))}
    assert made["quantize.imatrix.file"] == "x" * 127
    assert made["quantize.imatrix.dataset"] == "é" * 63


@pytest.mark.parametrize(("stated", "kept"), [(8, 32), (16, 32), (32, 32), (64, 64), (4096, 4096)])
def test_an_alignment_that_the_engines_cannot_map_is_raised(stated: int, kept: int, tmp_path: Path) -> None:
    made = output_metadata(parsed(tmp_path, u32_field("general.alignment", stated), u32_field("k", 1)), None)
    assert [f.raw for f in made[:2]] == [u32_field("general.alignment", kept), u32_field("k", 1)]
