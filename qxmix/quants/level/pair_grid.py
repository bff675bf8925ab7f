"""The grid of IQ2_KL: 32 pairs of the eight levels of IQ3_K, and the point that the engine takes for two weights.

The nearest level of either weight names one of 64 cells.  Half of the cells are points of the grid.  For each of the
others the engine looks at eight points and takes the one with the least ``w1 d1**2 + w2 d2**2``, the first of equals.
Most of the eight can never win: one before them is at least as near in both directions, wherever in the cell the
weights are.  What is left are four at most, and cells on the grid have a list of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.levels import IQ3_LEVELS, Levels, thresholds
from qxmix.quants.common.simd import gather, splat, where
from qxmix.quants.jit import inlined

_CELLS = (2, 5, 8, 11, 13, 15, 17, 18, 20, 21, 22, 24, 28, 29, 31, 34, 35, 36, 37, 38, 41, 42, 43, 44, 45, 48, 50, 52,
          54, 55, 58, 61)  # fmt: skip
"""Cell ``8 * first + second`` of each point."""
POINTS: Levels = np.array([[IQ3_LEVELS[cell // 8], IQ3_LEVELS[cell % 8]] for cell in _CELLS], dtype=np.float32)
"""(32, 2) the levels of each point (``iq2kl_values``)."""
N_LISTED = 8
"""Points that the engine looks at for a cell off the grid: those nearest to the cell's levels, nearest first."""
N_NEAR = 4
_PACK = np.float32(128.0)


def _as_near(level: float, other: float, cell: int) -> bool:
    """Whether ``level`` is at least as near as ``other`` to all values whose nearest level is that of the cell."""
    low = (IQ3_LEVELS[cell] + IQ3_LEVELS[cell - 1]) / 2 if cell else -np.inf
    high = (IQ3_LEVELS[cell] + IQ3_LEVELS[cell + 1]) / 2 if cell < len(IQ3_LEVELS) - 1 else np.inf
    middle = (level + other) / 2
    return bool(level == other or (high <= middle if level < other else low >= middle))


def _can_win(cell: int) -> list[int]:
    """The points of a cell's list but those that one before them beats or equals everywhere in the cell."""
    own = (cell // 8, cell % 8)
    order = np.square(POINTS - IQ3_LEVELS[list(own)]).sum(axis=1).argsort(kind="stable")
    kept: list[int] = []
    for p in order[:N_LISTED].tolist():
        if not any(all(_as_near(POINTS[k][i], POINTS[p][i], own[i]) for i in (0, 1)) for k in kept):
            kept.append(p)
    return kept


def near_points() -> NDArray[np.int64]:
    """(64, N_NEAR) the points that a cell can take, in the order of its list, filled up with the first."""
    lists = [[_CELLS.index(cell)] if cell in _CELLS else _can_win(cell) for cell in range(64)]
    return np.array([points + [points[0]] * (N_NEAR - len(points)) for points in lists])


_NEAR = near_points()
_NEAR_PACKED = [np.ascontiguousarray(_PACK * POINTS[_NEAR[:, i], 0] + POINTS[_NEAR[:, i], 1]) for i in range(N_NEAR)]
_FIRST, _SECOND, _THIRD, _FOURTH = _NEAR_PACKED
"""Both levels of a point in one float: ``128 * first + second``, one look-up instead of two."""
_INDEX = np.zeros(64, dtype=np.float32)
_INDEX[list(_CELLS)] = np.arange(len(_CELLS))
_FLIPS = thresholds(IQ3_LEVELS)

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one
_0 = np.float32(0.0)
_1 = np.float32(1.0)
_8 = np.float32(8.0)


@inlined
def cell_of(x1, x2):
    """Cell of the nearest levels of two vectors; NaN counts as the lowest."""
    cell = splat(_0)
    for i in range(len(_FLIPS)):
        cell = cell + where(x1 >= _FLIPS[i], splat(_8), splat(_0))
        cell = cell + where(x2 >= _FLIPS[i], splat(_1), splat(_0))
    return cell


@inlined
def _unpack(packed):
    first = (packed * (_1 / _PACK) + _MAGIC) - _MAGIC
    return first, packed - _PACK * first


@inlined
def distance(x1, x2, w1, w2, q1, q2):
    """``w1 (q1 - x1) ** 2 + w2 (q2 - x2) ** 2``."""
    d1, d2 = q1 - x1, q2 - x2
    return (w1 * d1) * d1 + (w2 * d2) * d2


@inlined
def nearest_point(x1, x2, w1, w2):
    """The levels of the point that the engine takes for two vectors of weights over the scale."""
    cell = cell_of(x1, x2)
    q1, q2 = _unpack(gather(_FIRST, cell))
    best = distance(x1, x2, w1, w2, q1, q2)
    for table in (_SECOND, _THIRD, _FOURTH):
        p1, p2 = _unpack(gather(table, cell))
        d = distance(x1, x2, w1, w2, p1, p2)
        better = d < best
        best, q1, q2 = where(better, d, best), where(better, p1, q1), where(better, p2, q2)
    return q1, q2


@inlined
def index_of(q1, q2):
    """Index of the point with these levels."""
    return gather(_INDEX, cell_of(q1, q2))
