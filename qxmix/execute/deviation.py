"""How far the encoded weights are from the ones that were read."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np
from numpy.typing import NDArray

_N_WORST = 5
"""Rows that are named."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Sums over rows, so that those of leaves add up to those of a tensor.

    ``x`` are the weights read, ``q`` the weights written, ``w`` the importance (1 where there is none).
    """

    sums: tuple[float, ...]
    """Sums of w, w (x - q)^2, (x - q)^2, x^2, q^2 and x q."""
    worst: tuple[tuple[float, int], ...]
    """Relative error ``sqrt(sum (x - q)^2 / sum x^2)`` and index of the worst rows, worst first."""

    @property
    def weighted_rmse(self) -> float:
        """Root of the importance-weighted mean squared error, in units of the weights."""
        return sqrt(self.sums[1] / self.sums[0]) if self.sums[0] > 0 else 0.0

    @property
    def relative_error(self) -> float:
        """Root of the error's energy over the weights' energy, unweighted; 0 for a tensor of zeros kept as such."""
        return sqrt(self.sums[2] / self.sums[3]) if self.sums[3] > 0 else sqrt(self.sums[2])

    @property
    def cosine(self) -> float:
        """Cosine between weights read and written; 1 where both are zero."""
        xx, qq, xq = self.sums[3:]
        norm = sqrt(xx) * sqrt(qq)
        return min(1.0, xq / norm) if norm > 0 else float(xx == qq)


@dataclass(frozen=True, slots=True)
class Moved:
    """One tensor in both files."""

    name: str
    source_type: str
    type: str
    deviation: Deviation


def row_sums(x: NDArray[np.float32], q: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_rows, 6) sums per row, in the order of ``Deviation.sums``, for (n_rows, n_cols) weights."""
    x64, q64 = x.astype(np.float64), q.astype(np.float64)
    w = columns.astype(np.float64) if len(columns) else np.ones(x.shape[1])
    error = np.square(x64 - q64)
    sums = (
        np.full(len(x), w.sum()),
        error @ w,
        error.sum(axis=1),
        np.square(x64).sum(axis=1),
        np.square(q64).sum(axis=1),
        (x64 * q64).sum(axis=1),
    )
    return np.stack(sums, axis=1)


def summarize(sums: NDArray[np.float64], first_row: int) -> Deviation:
    """Add up rows, exactly, so that the result does not depend on how many were computed at once."""
    relative = np.sqrt(sums[:, 2] / np.where(sums[:, 3] > 0, sums[:, 3], 1))
    order = np.argsort(-relative, kind="stable")[:_N_WORST]
    worst = tuple((float(relative[i]), first_row + int(i)) for i in order)
    return Deviation(tuple(fsum(column) for column in sums.T), worst)


def total(parts: list[Deviation]) -> Deviation:
    """The deviation of a tensor from those of its leaves."""
    worst = sorted((row for part in parts for row in part.worst), key=lambda row: (-row[0], row[1]))[:_N_WORST]
    return Deviation(tuple(map(fsum, zip(*(part.sums for part in parts), strict=True))), tuple(worst))
