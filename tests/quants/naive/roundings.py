"""All roundings that are the best of some scale, one by one: what an exhaustive search must find the best of.

A plain loop in float64, compiled by numba alone: no lanes, no bounds, nothing skipped, nothing of the package.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=False)  # type: ignore[untyped-decorator]
def _best_of_sign(x: np.ndarray, w: np.ndarray, levels: np.ndarray, due: np.ndarray, element: np.ndarray) -> float:
    """The most that a rounding of ``x`` (n,) explains at a positive scale; ``due``, ``element`` are scratch."""
    n, n_levels, n_turns = len(x), len(levels), 0
    zero = np.abs(levels).argmin()
    code = np.full(n, zero)
    for e in range(n):
        way = 1 if x[e] > 0 else -1
        j = zero
        while x[e] != 0 and 0 <= j + way < n_levels:
            due[n_turns], element[n_turns] = (levels[j] + levels[j + way]) / (2 * x[e]), e
            n_turns += 1
            j += way
    s1 = (w * x).sum() * levels[zero]
    s2 = w.sum() * levels[zero] ** 2
    best = s1 * s1 / s2 if s2 > 0 else 0.0
    for i in np.argsort(due[:n_turns], kind="mergesort"):
        e = element[i]
        before = levels[code[e]]
        code[e] += 1 if x[e] > 0 else -1
        after = levels[code[e]]
        s1 += w[e] * x[e] * (after - before)
        s2 += w[e] * (after * after - before * before)
        if s2 > 0 and s1 * s1 > best * s2:
            best = s1 * s1 / s2
    return best


@numba.njit(cache=False, nogil=True)  # type: ignore[untyped-decorator]
def _best(x: np.ndarray, w: np.ndarray, levels: np.ndarray, best: np.ndarray) -> None:
    due, element = np.empty(len(levels) * x.shape[1]), np.empty(len(levels) * x.shape[1], np.int64)
    for b in range(len(x)):
        best[b] = max(_best_of_sign(x[b], w[b], levels, due, element), _best_of_sign(-x[b], w[b], levels, due, element))


def best_explained(x: np.ndarray, w: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The most that a rounding of each block to ``levels`` explains of its energy: (n_blocks,) float64.

    ``x`` and ``w`` are (n_blocks, n), ``levels`` ascend.  As the scale shrinks from infinity each weight walks from the
    level nearest zero outward, one level where it is halfway between two: every rounding on that way is counted, for
    either sign of the scale, with its own best scale.
    """
    best = np.empty(len(x))
    _best(x.astype(np.float64), w.astype(np.float64), levels.astype(np.float64), best)
    return best
