"""Both engines load what the layout gives: one file, shards, and an alignment of the file's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.header import read_header
from qxmix.container.layout import OutputTensor, lay_out, output_path, split_by_size
from qxmix.container.output_metadata import output_metadata
from qxmix.engines.session import Session
from qxmix.quants import ENGINES, Engine

if TYPE_CHECKING:
    from pathlib import Path


def copy(model: Path, output: Path, *, alignment: int | None, max_nbytes: int | None) -> list[Path]:
    """The model's tensors at the places a layout gives them."""
    header = read_header(model)
    data = model.read_bytes()
    stated = [make_field("general.alignment", alignment, ValueType.UINT32)] if alignment else []
    metadata = output_metadata([*header.metadata, *stated], 1, provenance={"qxmix.recipe": "text"})
    tensors = [OutputTensor(t.name, t.shape, t.type_id, t.nbytes) for t in header.tensors]
    shards = split_by_size(tensors, metadata, max_nbytes) if max_nbytes else None
    layout = lay_out(tensors, metadata, shards)
    paths = [output_path(output, f.suffix) for f in layout.files]
    for path, planned in zip(paths, layout.files, strict=True):
        path.write_bytes(planned.header.ljust(planned.nbytes, b"\0"))
    for tensor, shard, offset in zip(header.tensors, layout.shards, layout.offsets, strict=True):
        with paths[shard].open("r+b") as file:
            file.seek(offset)
            file.write(data[tensor.offset : tensor.offset + tensor.nbytes])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("alignment", "max_nbytes"), [(None, None), (64, None), (8, None), (None, 1_000_000), (128, 1_500_000)]
)
def test_they_generate_as_from_the_source(
    engine: Engine, alignment: int | None, max_nbytes: int | None, demo_moe_model: Path, tmp_path: Path
) -> None:
    paths = copy(demo_moe_model, tmp_path / "out.gguf", alignment=alignment, max_nbytes=max_nbytes)
    assert (len(paths) > 1) == (max_nbytes is not None)
    with Session(engine, demo_moe_model, n_threads=1) as session:
        expected = session.generate("The world of", 8)
    with Session(engine, paths[0], n_threads=1) as session:
        assert session.generate("The world of", 8) == expected
