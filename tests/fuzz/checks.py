"""What must hold of an error, and of a header that was accepted."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.container.header import read_header
from qxmix.container.layout import OutputTensor, kept_split, lay_out
from qxmix.container.output_metadata import output_metadata
from qxmix.errors import QxmixError
from qxmix.plan import make_plan
from qxmix.recipe.load import load_recipe
from qxmix.report.inspect import model_facts, model_text

if TYPE_CHECKING:
    from qxmix.container.model import ModelHeader
    from qxmix.recipe.model import Recipe

STOCK_RECIPE = """
qxmix: 1
target: ik_llama.cpp
default: q4_k
rules:
  - {when: {n_layer: ">1", n_head: ">1", n_head_kv: "<9", n_embd: ">1"}, layers: more_bits, type: q6_k}
  - {when: {n_expert: "%2", n_vocab: ">3", n_gqa: ">1", tied: true}, layers: first(1/8), type: q5_k}
  - {match: weight, layers: {pick: every(2), by: ordinal}, type: iq4_nl}
"""


def check_error(error: QxmixError) -> str:
    """One line per problem, short, and nothing in it that a terminal would obey."""
    assert error.problems
    for problem in error.problems:
        assert problem.text
        assert str(problem).isprintable(), repr(str(problem))
        assert len(problem.text) < 1000
    return error.problems[0].text


def check_header(header: ModelHeader, data: bytes) -> None:
    """Tensors lie in their files and apart; the header is in the file; a layout of it is read back the same."""
    ends = [0] * len(header.paths)
    for tensor in sorted(header.tensors, key=lambda t: (t.shard, t.offset)):
        assert tensor.offset >= ends[tensor.shard]
        assert tensor.nbytes > 0
        ends[tensor.shard] = tensor.offset + tensor.nbytes
        assert tensor.quant_type is None or tensor.quant_type.nbytes(tensor.shape) == tensor.nbytes
    assert all(end <= nbytes for end, nbytes in zip(ends, header.file_nbytes, strict=True))
    assert b"".join(f.raw for f in header.metadata) in data
    facts = model_facts(header)
    json.dumps(facts, allow_nan=False)
    assert model_text(facts, every=True, terminal=False)
    check_layout(header)
    check_plan(header)


def check_layout(header: ModelHeader) -> None:
    outputs = [OutputTensor(t.name, t.shape, t.type_id, t.nbytes) for t in header.tensors]
    shards, n_shards = kept_split(header)
    layout = lay_out(outputs, output_metadata(header.metadata, 15), shards, n_shards)
    folder = header.path.parent / "out"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"o{f.suffix}.gguf" for f in layout.files]
    for path, planned in zip(paths, layout.files, strict=True):
        with path.open("wb") as file:
            file.write(planned.header)
            file.truncate(planned.nbytes)
    again = read_header(paths[0])
    assert again.file_nbytes == tuple(f.nbytes for f in layout.files)
    assert [(t.name, t.shape, t.type_id, t.shard, t.offset) for t in again.tensors] == [
        (t.name, t.shape, t.type_id, t.shard if shards else 0, offset)
        for t, offset in zip(header.tensors, layout.offsets, strict=True)
    ]


def check_plan(header: ModelHeader) -> None:
    """A recipe with every kind of selector plans it, whatever the types of the facts in its metadata."""
    try:
        plan = make_plan(stock_recipe(), header)
    except QxmixError as error:
        check_error(error)
    else:
        assert [t.name for t in plan.tensors] == [t.name for t in header.tensors]
        assert all(p.text.isprintable() for p in plan.problems)


@cache
def stock_recipe() -> Recipe:
    """Rules that ask for layers, ordinals and facts of the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(STOCK_RECIPE)
        return load_recipe(path)
