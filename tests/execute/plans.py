"""Plans made by hand, so that the executor is tested without the recipe language."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import gguf
import numpy as np

from qxmix import quants
from qxmix.container.header import read_header
from qxmix.container.imatrix import Imatrix
from qxmix.container.layout import OutputTensor, lay_out
from qxmix.container.output_metadata import output_metadata
from qxmix.plan import Plan, PlannedTensor
from qxmix.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from qxmix.quants.codec import Search
    from qxmix.recipe.model import Recipe

SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (64, 96),
    "blk.0.attn_q.weight": (64, 64),
    "blk.0.attn_norm.weight": (64,),
    "blk.0.ffn_down_exps.weight": (96, 48, 3),
    "blk.1.attn_q.weight": (256, 40),
    "output.weight": (64, 33),
}
"""Tensors of the usual test model, in GGUF order: rows that no power of two divides, a stack of matrices, a vector."""


def weights(shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights of these shapes."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.05, shape[::-1]).astype(np.float32) for name, shape in shapes.items()}


def write_model(path: Path, tensors: Mapping[str, NDArray[np.generic]], **strings: str) -> Path:
    """Write a GGUF model with the gguf package."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in strings.items():
        writer.add_string(key.replace("_", "."), value)
    finish_model(writer, tensors)
    return path


def finish_model(writer: gguf.GGUFWriter, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Add the tensors to a model that has its metadata, and write it."""
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def f16_model(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 0) -> Path:
    """Write a model whose matrices are F16 and whose vectors are F32."""
    data = {n: w.astype(np.float16) if w.ndim > 1 else w for n, w in weights(shapes, seed).items()}
    return write_model(path, data)


def uniform_imatrix(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 1) -> Imatrix:
    """Make an importance matrix with random entries for all tensors, one run per stacked matrix."""
    rng = np.random.default_rng(seed)
    n_values = {name: shape[0] * int(np.prod(shape[2:])) for name, shape in shapes.items()}
    entries = {name: rng.uniform(0.1, 2, n).astype(np.float32) for name, n in n_values.items()}
    return Imatrix(path=path, sha256="5" * 64, entries=entries, datasets=(), n_chunks=1)


def plan_for(
    model: Path,
    types: Mapping[str, str],
    default: str = "Q4_0",
    imatrix: Imatrix | None = None,
    search: Search | None = None,
    shards: Sequence[int] | None = None,
) -> Plan:
    """Plan by hand: ``types`` by name, ``default`` for other matrices; vectors and tensors called "keep" are copied."""
    header = read_header(model)
    chosen = [types.get(t.name, default if len(t.shape) > 1 else "keep") for t in header.tensors]
    chosen = [t.type if c in {"keep", t.type} else c for t, c in zip(header.tensors, chosen, strict=True)]
    outputs = [
        OutputTensor(t.name, t.shape, t.type_id, t.nbytes)
        if c == t.type
        else OutputTensor(t.name, t.shape, quants.get(c).id, quants.get(c).nbytes(t.shape))
        for t, c in zip(header.tensors, chosen, strict=True)
    ]
    notes = provenance("qxmix: 1\ndefault: q4_0\n", "7" * 64, imatrix, len(outputs))
    layout = lay_out(outputs, output_metadata(header.metadata, 2, imatrix, provenance=notes), shards)
    tensors = [
        PlannedTensor(
            source=source,
            quant_type=quants.get(type_name),
            action="copy" if type_name == source.type else "encode",
            reason="by hand",
            requested=type_name,
            rule=None,
            importance=source.name if imatrix and source.name in imatrix.entries else None,
            search=search,
            nbytes=output.nbytes,
            shard=shard,
            offset=offset,
        )
        for source, type_name, output, shard, offset in zip(
            header.tensors, chosen, outputs, layout.shards, layout.offsets, strict=True
        )
    ]
    recipe = cast("Recipe", SimpleNamespace(path=Path("recipe.yaml"), sha256="7" * 64))
    return Plan(recipe, header, imatrix, tuple(tensors), 2, layout.files, ())


MIXES: tuple[tuple[str, dict[str, str]], ...] = (
    ("Q4_0", {"token_embd.weight": "Q8_0"}),
    ("Q4_0", {"token_embd.weight": "keep", "blk.1.attn_q.weight": "Q8_0"}),
    ("Q8_0", {}),
    ("IQ4_NL", {"blk.1.attn_q.weight": "Q8_0_R8"}),
)
"""Default and types of four outputs of one model."""


def mixes_of(model: Path, imatrix: Imatrix, shards_of_third: Sequence[int] | None = None) -> list[Plan]:
    """Four outputs of a model, the second without the importance matrix."""
    return [
        plan_for(model, types, default, None if i == 1 else imatrix, shards=shards_of_third if i == 2 else None)
        for i, (default, types) in enumerate(MIXES)
    ]
