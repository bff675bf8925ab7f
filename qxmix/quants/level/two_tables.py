"""Nearest level in one of two tables, the second being the first shifted, by look-up in SIMD lanes.

A comparison with each threshold, as in ``levels``, costs as many steps as there are levels.  Levels here are whole
numbers at least 2 apart, so between two whole numbers lies at most one threshold: the whole part of a value finds that
one and the levels on both sides of it.  Three or four gathers replace 15, 31 or 63 comparisons.

Buckets of one table are counted from its lowest level; the bucket of y is its part before the point, toward zero, so
bucket -5 is (-6, -5], bucket 0 is (-1, 1) and bucket 5 is [5, 6).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qxmix.quants.common.levels import Levels, thresholds
from qxmix.quants.common.simd import gather, splat, truncate, where
from qxmix.quants.jit import inlined

_1 = np.float32(1.0)
_0 = np.float32(0.0)
_INF = np.float32(np.inf)


def _buckets(levels: Levels) -> tuple[list[np.float32], list[int]]:
    """For each bucket the threshold in it, or the next one, and how many thresholds every value in it reaches."""
    flips = thresholds(levels)
    next_flip, n_reached = [], []
    for whole in np.arange(levels[0], levels[-1] + 1, dtype=np.float32):
        least = np.nextafter(whole - _1, _INF) if whole <= _0 else whole
        n = int((flips <= least).sum())
        n_reached.append(n)
        next_flip.append(flips[n] if n < len(flips) else _INF)
    return next_flip, n_reached


class TwoTables:
    """The arrays that kernels close over; ``levels`` and, after it, ``levels + shift``."""

    def __init__(self, levels: Levels, shift: int) -> None:
        self.levels = levels
        self.shift = np.float32(shift)
        both = (levels, levels + self.shift)
        self.both: Levels = np.concatenate(both)
        """(2 n_levels,) the levels of one table after those of the other."""
        split = [_buckets(each) for each in both]
        n_reached = [n for _, ns in split for n in ns]
        side = [s for s, (_, ns) in enumerate(split) for _ in ns]
        self.n_buckets = len(split[0][1])
        self.flip = np.array([f for fs, _ in split for f in fs], dtype=np.float32)
        """(2 n_buckets,) the threshold to compare with."""
        # Two entries a bucket: below the threshold, and from it on.
        codes = [(s, n + above) for s, n in zip(side, n_reached, strict=True) for above in (0, 1)]
        codes = [(s, min(code, len(levels) - 1)) for s, code in codes]
        self.code = np.array([code for _, code in codes], dtype=np.float32)
        """(4 n_buckets,) the code; at twice the bucket, and one on if the threshold is reached."""
        self.high = np.array([both[s][code] for s, code in codes], dtype=np.float32)
        """The level of that code."""
        self.low = np.array([both[s][max(code - 1, 0)] for s, code in codes], dtype=np.float32)
        """The level below it."""
        reached = [np.append(-_INF, thresholds(each)) for each in both]
        self.last = np.array([reached[s][code] for s, code in codes], dtype=np.float32)
        """The threshold of that code, that is, the last one reached."""


def entry_of(tables: TwoTables) -> Callable[..., object]:
    """Build the inlined function that finds where the tables hold what belongs to the values of a vector.

    It takes the values and the side of each, 0 or 1 for the shifted table; NaN counts as the lowest level.
    """
    flip, n_buckets, shift = tables.flip, np.float32(tables.n_buckets), tables.shift
    least, most = tables.levels[0], tables.levels[-1]

    @inlined
    def entry(y, side):
        low = least + side * shift
        inside = where(y > low, y, low + side * _0)
        inside = min(inside, most + side * shift)
        bucket = (truncate(inside) - low) + side * n_buckets
        reached = inside >= gather(flip, bucket)
        return (bucket + bucket) + where(reached, splat(_1), splat(_0))

    return entry
