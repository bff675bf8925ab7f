"""The scale of a row of the trellis types, once the code vectors of its blocks are found.

Sums run over the whole row in the reference's order; the trial scales of a row lie in two vectors.

Source: ``quantize_row_iq*_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.levels import IQ4_LEVELS, nearest_level
from qxmix.quants.common.numerics import nint
from qxmix.quants.common.simd import WIDTH, load, splat, store
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.trellis.queries import BLOCK

N_TRIALS = 19
"""Scales that are tried for a row."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@inlined
def first_largest(scales):
    """The scale of largest magnitude; the first one wins."""
    amax = mx = _0
    for s in scales:
        if abs(s) > amax:
            amax = abs(s)
            mx = s
    return mx


@inlined
def level16(x):
    """Nearest of the levels 0 to 15."""
    return min(max(nint(x), _0), np.float32(15.0))


def _row_search(middle: float, step: float, level_of: Callable[[np.float32], np.float32]) -> Callable[..., None]:
    """Build the kernel that searches the scale of each row.

    The largest scale of a row is put at the level ``middle`` and at others on both sides, ``step`` apart;
    ``level_of`` rounds a scale to a level.
    """
    lanes = 2 * WIDTH
    # The lanes beyond the last trial repeat it and are not looked at.
    steps = np.minimum(np.arange(lanes) - N_TRIALS // 2, N_TRIALS // 2).astype(np.float32)
    top = np.float32(middle)
    trial_tops = steps * np.float32(step) + top

    @kernel
    def search_rows(x, w, values, found, scales, d):
        """Scale ``d`` (n_rows,) of each row, 0 where all ``scales`` (n_rows, n_blocks) are.

        ``found`` (n_rows, n_blocks, groups per block) are the code vectors.
        """
        n_rows, n_blocks, per_block = found.shape
        n = values.shape[1]
        inverse, level = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
        sums = np.empty((2, lanes), np.float32)
        for r in range(n_rows):
            mx = first_largest(scales[r])
            d[r] = mx / top if mx != _0 else _0
            if mx == _0:
                continue
            for t in range(lanes):
                inverse[t] = trial_tops[t] / mx
            s1 = s2 = t1 = t2 = splat(_0)
            for block in range(n_blocks):
                for t in range(lanes):
                    level[t] = level_of(inverse[t] * scales[r, block])
                low, high = load(level, 0), load(level, WIDTH)
                at = (r * n_blocks + block) * BLOCK
                for g in range(per_block):
                    vector = found[r, block, g]
                    for k in range(n):
                        e = at + g * n + k
                        wx, weight, value = w[e] * x[e], w[e], values[vector, k]
                        q = low * value
                        s1, s2 = s1 + q * wx, s2 + (q * weight) * q
                        q = high * value
                        t1, t2 = t1 + q * wx, t2 + (q * weight) * q
            store(sums, 0, s1)
            store(sums, WIDTH, t1)
            store(sums, 2 * WIDTH, s2)
            store(sums, 3 * WIDTH, t2)
            best = _0
            for t in range(N_TRIALS):
                qx, q2 = sums[0, t], sums[1, t]
                if q2 > _0 and qx * qx > best * q2:
                    d[r] = qx / q2
                    best = d[r] * qx

    return search_rows


search_rows_iq4 = _row_search(float(IQ4_LEVELS[0]), 1.0, nearest_level(IQ4_LEVELS))
search_rows_16 = _row_search(15.0, 0.2, level16)


def inverse_of(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over each, 0 for 0."""
    with np.errstate(over="ignore"):  # the smallest floats have no finite inverse
        return np.divide(_1, steps, out=np.zeros_like(steps), where=steps != _0)


@kernel
def keep_nearer(x, w, values, steps, before, found):
    """Put the code vectors of ``before`` back in blocks where their weighted squared error is smaller."""
    n_blocks, per_block = found.shape
    n = values.shape[1]
    for block in range(n_blocks):
        step = steps[block]
        error_before = error = _0
        for g in range(per_block):
            for k in range(n):
                e = (block * per_block + g) * n + k
                d = x[e] - step * values[before[block, g], k]
                error_before += (w[e] * d) * d
                d = x[e] - step * values[found[block, g], k]
                error += (w[e] * d) * d
        if error_before < error:
            for g in range(per_block):
                found[block, g] = before[block, g]


@kernel
def refit(x, w, values, levels, found, d):
    """The scale of each row that fits the code vectors best; ``d`` stays where no weight is left to decide it."""
    n_rows, n_blocks, per_block = found.shape
    n = values.shape[1]
    for r in range(n_rows):
        s1 = s2 = _0
        for block in range(n_blocks):
            level = levels[r, block]
            for g in range(per_block):
                vector = found[r, block, g]
                for k in range(n):
                    e = ((r * n_blocks + block) * per_block + g) * n + k
                    q = values[vector, k] * level
                    s1 += (w[e] * x[e]) * q
                    s2 += (w[e] * q) * q
        if s2 > _0:
            d[r] = s1 / s2
