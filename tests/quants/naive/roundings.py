"""All roundings that are the best of some scale, by brute force: what an exhaustive search must find the best of."""

from __future__ import annotations

import numpy as np


def best_explained(x: np.ndarray, w: np.ndarray, levels: np.ndarray) -> float:
    """The most that a rounding of the block ``x`` (n,) to ``levels`` explains of its energy under weights ``w``.

    Between two neighbouring scales at which a weight is halfway between levels the rounding is the same: one scale of
    each interval, of either sign, is tried.
    """
    middles = (levels[1:] + levels[:-1]) / 2
    best = 0.0
    for y in (x, -x):
        with np.errstate(divide="ignore", invalid="ignore"):
            turns = (middles[:, None] / y[None]).ravel()
        turns = np.unique(turns[np.isfinite(turns) & (turns > 0)])
        if not len(turns):
            continue
        inverse = np.concatenate([[turns[0] / 2], np.sqrt(turns[1:] * turns[:-1]), [turns[-1] * 2]])
        q = levels[np.searchsorted(middles, inverse[:, None] * y)]
        s1, s2 = (w * y * q).sum(axis=1), (w * q * q).sum(axis=1)
        best = max(best, float((np.square(s1) / np.where(s2 > 0, s2, 1)).max()))
    return best
