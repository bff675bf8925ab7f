"""The laid-out output against the gguf package's writer, and against our own reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.header import read_header
from qxmix.container.layout import (
    Layout,
    OutputTensor,
    kept_split,
    lay_out,
    output_path,
    shard_suffix,
    split_by_size,
)
from qxmix.errors import PlanError
from qxmix.quants import QUANT_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qxmix.container.model import MetadataField

ARCH = make_field("general.architecture", "llama", ValueType.STRING)


def metadata(alignment: int | None = None) -> list[MetadataField]:
    words = make_field("tokenizer.ggml.tokens", ["a", "bc", ""], ValueType.ARRAY, ValueType.STRING)
    extra = [] if alignment is None else [make_field("general.alignment", alignment, ValueType.UINT32)]
    return [ARCH, *extra, words, make_field("llama.rope.freq_base", 10000.0, ValueType.FLOAT32)]


def tensors(shapes: Sequence[tuple[int, ...]], type_id: int = 0) -> list[OutputTensor]:
    return [OutputTensor(f"blk.{i}.weight", s, type_id, 4 * int(np.prod(s))) for i, s in enumerate(shapes)]


def write_out(folder: Path, layout: Layout, data: dict[int, bytes] | None = None) -> list[Path]:
    """What the executor does: each header at the front, each tensor at its offset."""
    paths = [output_path(folder / "out.gguf", f.suffix) for f in layout.files]
    for no, (path, planned) in enumerate(zip(paths, layout.files, strict=True)):
        with path.open("wb") as file:
            file.truncate(planned.nbytes)
            file.write(planned.header)
            for index, blob in (data or {}).items():
                if layout.shards[index] == no:
                    file.seek(layout.offsets[index])
                    file.write(blob)
    return paths


@pytest.mark.parametrize("alignment", [None, 8, 32, 64, 4096])
def test_one_file_is_what_the_package_writes(alignment: int | None, tmp_path: Path) -> None:
    shapes = [(5,), (32, 3), (7, 2, 3), (1,)]
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(s[::-1], dtype=np.float32) for s in shapes]
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_token_list(["a", "bc", ""])
    writer.add_float32("llama.rope.freq_base", 10000.0)
    for i, value in enumerate(values):
        writer.add_tensor(f"blk.{i}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    layout = lay_out(tensors(shapes), metadata(alignment))
    (path,) = write_out(tmp_path, layout, {i: v.tobytes() for i, v in enumerate(values)})
    assert path.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
    assert layout.nbytes == path.stat().st_size
    assert layout.shards == (0, 0, 0, 0)


def test_no_tensors_at_all(tmp_path: Path) -> None:
    layout = lay_out([], metadata())
    (path,) = write_out(tmp_path, layout)
    assert layout.nbytes == len(layout.files[0].header) == path.stat().st_size
    assert read_header(path).tensors == ()


SHAPES = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


def stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES, st.sampled_from([None, 8, 64, 1024]), st.integers(1, 40000), st.one_of(st.none(), st.integers(1, 5)))
def test_shards_are_read_back_as_planned(
    tmp_path: Path, shapes: list[tuple[int, ...]], alignment: int | None, max_nbytes: int, max_tensors: int | None
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    planned = tensors([stripped(s) for s in shapes])
    fields = metadata(alignment)
    shards = split_by_size(planned, fields, max_nbytes, max_tensors)
    layout = lay_out(planned, fields, shards)
    paths = write_out(tmp_path, layout)
    header = read_header(paths[0])
    assert [f.nbytes for f in layout.files] == list(header.file_nbytes)
    assert [(t.name, t.shape, t.nbytes, t.shard, t.offset) for t in header.tensors] == [
        (p.name, p.shape, p.nbytes, shard, offset)
        for p, shard, offset in zip(planned, layout.shards, layout.offsets, strict=True)
    ]
    assert [f.raw for f in header.metadata[:-3]] == [f.raw for f in fields]
    assert shards == tuple(sorted(shards))
    for no, file in enumerate(layout.files):
        members = [i for i, s in enumerate(shards) if s == no]
        assert members
        assert len(members) <= (max_tensors or len(members))
        assert file.nbytes <= max_nbytes or len(members) == 1
        if no and len(members) != max_tensors:  # one more from the next shard would not have fitted
            moved = tuple(no if i == members[-1] + 1 else s for i, s in enumerate(shards))
            if moved != shards:
                grown = lay_out(planned, fields, moved, len(layout.files)).files[no].nbytes
                assert grown > max_nbytes


def test_a_shard_may_be_exactly_as_large_as_asked_for() -> None:
    planned = tensors([(100,), (101,), (13,), (9,)])
    layout = lay_out(planned, [ARCH], (0, 1, 1, 2))
    exact = layout.files[1].nbytes
    assert layout.files[0].nbytes <= exact < lay_out(planned, [ARCH], (0, 0, 1, 2)).files[0].nbytes
    assert split_by_size(planned, [ARCH], exact) == (0, 1, 1, 2)
    assert split_by_size(planned, [ARCH], exact - 1) == (0, 1, 2, 2)


def test_split_keys_have_the_types_of_the_engines(tmp_path: Path) -> None:
    planned = tensors([(8,), (8,), (8,)])
    layout = lay_out(planned, metadata(), (0, 1, 1))
    assert [f.suffix for f in layout.files] == ["-00001-of-00002", "-00002-of-00002"]
    paths = write_out(tmp_path, layout)
    for no, path in enumerate(paths):
        fields = gguf.GGUFReader(path).fields
        assert [f"{k}={fields[k].contents()}:{fields[k].types[0].name}" for k in fields if k.startswith("split.")] == [
            f"split.no={no}:UINT16", "split.count=2:UINT16", "split.tensors.count=3:INT32"]  # fmt: skip
        assert ("general.architecture" in fields) == (no == 0)


def test_later_shards_use_the_default_alignment_they_imply(tmp_path: Path) -> None:
    layout = lay_out(tensors([(9,), (9,), (9,)]), metadata(4096), (0, 1, 1))
    assert len(layout.files[0].header) % 4096 == 0
    assert layout.offsets[2] - layout.offsets[1] == 64
    paths = write_out(tmp_path, layout)
    assert read_header(paths[0]).tensors[2].offset == layout.offsets[2]
    assert gguf.GGUFReader(paths[1]).tensors[1].data_offset == layout.offsets[2]


def test_an_input_split_is_kept_even_where_a_shard_is_empty(tmp_path: Path) -> None:
    assert kept_split(read_header(write_out(tmp_path, lay_out(tensors([(8,)]), metadata()))[0])) == (None, None)
    layout = lay_out(tensors([(8,), (8,)]), metadata(), (1, 1), 3)
    shards, n_shards = kept_split(read_header(write_out(tmp_path, layout)[0]))
    assert (shards, n_shards) == ((1, 1), 3)
    assert len(layout.files) == 3


@pytest.mark.parametrize("quant_type", QUANT_TYPES, ids=lambda t: t.name)
def test_every_type_is_written_and_read_back(quant_type: object, tmp_path: Path) -> None:
    known = next(t for t in QUANT_TYPES if t is quant_type)
    shape = (2 * known.block_size, known.row_group, 3)
    layout = lay_out([OutputTensor("a", shape, known.id, known.nbytes(shape))] * 1, metadata())
    (read,) = read_header(write_out(tmp_path, layout)[0]).tensors
    assert (read.type, read.shape, read.nbytes, read.offset) == (
        known.name, shape, known.nbytes(shape), layout.offsets[0])  # fmt: skip


def test_more_shards_than_a_u16_counts() -> None:
    with pytest.raises(PlanError, match=r"would be 70000 shards and can be at most 65535; raise the shard size"):
        lay_out(tensors([(8,)] * 2), metadata(), (0, 69999))


def test_more_bytes_than_a_file_can_have() -> None:
    huge = OutputTensor("a", (1 << 60,), 0, 1 << 62)
    assert lay_out([huge], []).nbytes > 1 << 62
    with pytest.raises(PlanError, match="more than 9,223,372,036,854,775,807 bytes, which no file can"):
        lay_out([huge, huge], [])
    assert lay_out([huge, huge], [], (0, 1)).nbytes > 1 << 63


def test_output_names(tmp_path: Path) -> None:
    assert output_path(tmp_path / "m.gguf", "") == tmp_path / "m.gguf"
    assert output_path(tmp_path / "m.gguf", shard_suffix(0, 3)).name == "m-00001-of-00003.gguf"
    assert output_path(tmp_path / "m.v2", shard_suffix(11, 12)).name == "m.v2-00012-of-00012.gguf"
