"""What differs between two importance matrices of one model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix
from qxmix.importance.coverage import unseen_matrices
from qxmix.importance.stats import similarity
from qxmix.recipe.categories import category_of, layer_of


class EntryChange(NamedTuple):
    """One entry that both have."""

    entry: str
    category: str
    layer: int | None
    moved_percent: float
    """Share of the importance that lies on other columns of its matrix: 0 where encoders weigh alike, 100 where none
    of the columns is shared.  Encoders see only this; the mean over stacked matrices that both saw."""
    scale: float
    """Mean importance of B over that of A; 0 where one of them has none."""
    similarity: float | None
    """Cosine between them; None where one is zero."""
    count_a: float
    """What its matrices counted, on average."""
    count_b: float
    n_unseen_a: int
    """Matrices that saw nothing."""
    n_unseen_b: int
    same: bool
    """Whether every value is equal."""


class Comparison(NamedTuple):
    """Two matrices side by side."""

    changes: tuple[EntryChange, ...]
    """Of the entries in both, in the order of A."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    resized: tuple[str, ...]
    """Entries in both whose sizes differ: the matrices are of different models."""

    @property
    def same(self) -> bool:
        """Whether they have the same importances."""
        return not (self.only_a or self.only_b or self.resized) and all(c.same for c in self.changes)


def compare(a: Imatrix, b: Imatrix) -> Comparison:
    """Compare entry by entry, in float64."""
    both = [name for name in a.entries if name in b.entries]
    resized = tuple(name for name in both if a.entries[name].size != b.entries[name].size)
    return Comparison(
        tuple(_change(a, b, name) for name in both if name not in resized),
        tuple(name for name in a.entries if name not in b.entries),
        tuple(name for name in b.entries if name not in a.entries),
        resized,
    )


def _change(a: Imatrix, b: Imatrix, name: str) -> EntryChange:
    counts = [_counts(a, name), _counts(b, name)]
    n_matrices = max(c.size for c in counts)
    x, y = (m.entries[name].reshape(n_matrices, -1).astype(np.float64) for m in (a, b))
    seen = np.broadcast_to((counts[0] > 0) & (counts[1] > 0), n_matrices)
    x, y = x[seen], y[seen]
    total_x, total_y = float(x.sum()), float(y.sum())
    return EntryChange(
        entry=name,
        category=category_of(name),
        layer=layer_of(name),
        moved_percent=100 * _moved(x, y),
        scale=total_y / total_x if total_x else 0.0,
        similarity=similarity(a.entries[name], b.entries[name]),
        count_a=float(counts[0].mean(dtype="f8")),
        count_b=float(counts[1].mean(dtype="f8")),
        n_unseen_a=len(unseen_matrices(a, name)),
        n_unseen_b=len(unseen_matrices(b, name)),
        same=np.array_equal(a.entries[name], b.entries[name]),
    )


def _counts(imatrix: Imatrix, name: str) -> NDArray[np.float32]:
    return imatrix.counts.get(name, np.ones(1, np.float32))


def _moved(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Half the sum of differences between shares, each matrix (a row) for itself; the mean over matrices."""
    sums = [m.sum(axis=1, keepdims=True) for m in (x, y)]
    shares = [np.divide(m, s, where=s > 0, out=np.zeros_like(m)) for m, s in zip((x, y), sums, strict=True)]
    moved = np.abs(shares[0] - shares[1]).sum(axis=1) / 2
    return float(moved.mean()) if moved.size else 0.0
