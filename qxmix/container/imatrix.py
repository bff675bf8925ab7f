"""Importance matrices: which columns of a tensor's input matter, measured on text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from qxmix.container.source import show
from qxmix.errors import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qxmix.container.model import TensorInfo


@dataclass(frozen=True, slots=True)
class Imatrix:
    """An importance matrix file, its values already divided by their counts."""

    path: Path
    sha256: str
    """Of the file, in hex; empty where it has not been written yet."""
    entries: Mapping[str, NDArray[np.float32]]
    """Tensor name to (n_matrices * n_cols,) importances, one run of ``n_cols`` per stacked matrix; read-only."""
    datasets: tuple[str, ...]
    """Names of the texts it was measured on, as the file states them."""
    n_chunks: int
    """Chunks of text it was measured on; 0 where the file does not say."""
    counts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Entry to how much each of its stacked matrices saw, (n_matrices,), or (1,) where one number holds for all of
    them.  A matrix that saw nothing has the importance 1 everywhere."""
    counts_in: Literal["tokens", "chunks"] = "tokens"
    """Unit of the counts: legacy files know only in how many chunks an entry occurred."""
    chunk_size: int = 0
    """Tokens per chunk; 0 where the file does not say."""


class ImportanceMatch(NamedTuple):
    """What an importance matrix has for a tensor."""

    entry: str | None
    """Name of the entry that weights the tensor, or None."""
    problem: Problem | None = None
    """A note that another tensor's entry stands in (``imatrix-alternate``), or a warning that there is an entry but of
    the wrong size (``imatrix-size``); whoever plans decides whether that is an error."""


_ALTERNATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ffn_gate_up_exps", ("ffn_up_exps", "ffn_gate_exps")),
    ("ffn_up_exps", ("ffn_gate_up_exps", "ffn_gate_exps")),
    ("ffn_gate_exps", ("ffn_gate_up_exps", "ffn_up_exps")),
    ("ffn_gate.weight", ("ffn_up.weight",)),
    ("attn_v_b", ("attn_kv_b",)),
    ("attn_kv_b", ("attn_v_b",)),
)
"""Tensors with the same input have the same importances; where one has no entry, the other's will do.  The pairs are
ik_llama.cpp's and the merged experts of both directions."""


def find_importance(imatrix: Imatrix, tensor: TensorInfo, *, alternates: bool = True) -> ImportanceMatch:
    """Look up which entry weights a tensor.

    Args:
        imatrix: The matrix.
        tensor: The tensor; an entry fits if it has ``n_cols * n_matrices`` values.
        alternates: Whether another tensor of the same input may stand in, as in ik_llama.cpp.

    """
    needed = tensor.n_cols * tensor.n_matrices
    own = imatrix.entries.get(tensor.name)
    if own is not None and own.size == needed:
        return ImportanceMatch(tensor.name)
    if alternates:
        for name in twins_of(tensor.name):
            other = imatrix.entries.get(name)
            if other is not None and other.size == needed:
                text = f"has no entry of its own in the importance matrix and takes that of {show(name)}, its twin"
                return ImportanceMatch(name, Problem(tensor.name, text, "note", "imatrix-alternate"))
    if own is None:
        return ImportanceMatch(None)
    text = (
        f"the importance matrix has {own.size} values for it and {tensor.n_cols} columns x {tensor.n_matrices} "
        f"matrices need {needed}; use a matrix that was made from this model"
    )
    return ImportanceMatch(None, Problem(tensor.name, text, "warning", "imatrix-size"))


def importance_of(imatrix: Imatrix, entry: str, n_cols: int, matrix: int = 0) -> NDArray[np.float32]:
    """The (n_cols,) importances of one matrix (expert, head) of the tensor that ``entry`` weights; read-only."""
    return imatrix.entries[entry][matrix * n_cols : (matrix + 1) * n_cols]


def twins_of(name: str) -> Iterator[str]:
    """Names of the tensors that see the same input as this one."""
    for part, others in _ALTERNATES:
        if part in name:
            yield from (name.replace(part, other) for other in others)
            return
