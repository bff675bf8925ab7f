"""What the importances of each tensor are like: how large, how uneven, how much like those of the layer before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix
from qxmix.recipe.categories import category_of, layer_of

_CARRIED = 0.9
"""The share of the importance whose columns are counted."""


@dataclass(frozen=True, slots=True)
class EntryStats:
    """One entry, all its stacked matrices together; those that saw nothing do not count."""

    entry: str
    category: str
    layer: int | None
    n_matrices: int
    n_values: int
    """Columns of the matrices that saw something; 0 where none did, and all figures are then 0."""
    count: float
    """What its matrices counted, tokens or chunks, on average."""
    sum: float
    min: float
    max: float
    mean: float
    carrying_percent: float
    """Columns, the most important first, that carry 90 % of the importance."""
    entropy: float
    """Of the importances as shares of their sum, in bits."""
    evenness: float
    """Entropy as a share of what equal importances would have: 1 where all are equal, 0 where one has everything."""
    similarity: float | None
    """Cosine between it and the same tensor of the layer before; None where there is none of the same size."""


def stats(imatrix: Imatrix) -> list[EntryStats]:
    """Describe every entry, in the order of the file.  All figures are computed in float64."""
    places = {(name.split(f"blk.{layer_of(name)}.", 1)[-1], layer_of(name)): name for name in imatrix.entries}
    found = []
    for (part, layer), name in places.items():
        before = places.get((part, layer - 1)) if layer is not None else None
        found.append(_describe(imatrix, name, before))
    return found


def _describe(imatrix: Imatrix, name: str, before: str | None) -> EntryStats:
    counts = imatrix.counts.get(name, np.ones(1, np.float32))
    values = imatrix.entries[name].reshape(counts.size, -1)[counts > 0].astype(np.float64).reshape(-1)
    total = float(values.sum())
    carrying, entropy = _spread(values, total)
    most = float(np.log2(values.size)) if values.size > 1 else 0.0
    return EntryStats(
        entry=name,
        category=category_of(name),
        layer=layer_of(name),
        n_matrices=counts.size,
        n_values=values.size,
        count=float(counts.mean(dtype="f8")),
        sum=total,
        min=float(values.min(initial=np.inf)) if values.size else 0.0,
        max=float(values.max(initial=0.0)),
        mean=total / max(1, values.size),
        carrying_percent=100 * carrying / max(1, values.size),
        entropy=entropy,
        evenness=entropy / most if most else 1.0,
        similarity=None if before is None else similarity(imatrix.entries[name], imatrix.entries[before]),
    )


def _spread(values: NDArray[np.float64], total: float) -> tuple[int, float]:
    """How many values carry most of the total, and the entropy of all in bits."""
    if total <= 0:
        return 0, 0.0
    cumulative = np.cumsum(np.sort(values)[::-1])
    shares = values[values > 0] / total
    return int(np.searchsorted(cumulative, _CARRIED * total)) + 1, float(-(shares * np.log2(shares)).sum())


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """Cosine between two entries; None where sizes differ or one is zero."""
    if a.size != b.size:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / norms if norms else None
