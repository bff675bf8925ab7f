"""The search of a scale for values that are not negative, with codes 0..nmax: the scales and minimums of blocks."""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import nint
from qxmix.quants.jit import inlined, kernel

POSITIVE_ROWS = 8
"""Rows of (rows, LANES) float32 scratch that the search needs."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_NOTHING = np.float32(1e-16)
"""Where the largest value is below this, all codes are zero."""


@inlined
def _as_byte(code):
    """What is left of a code after it was stored as an unsigned byte: -1 becomes 255, as in ggml."""
    return code - np.float32(256.0) * np.floor(code * np.float32(1.0 / 256.0))


@kernel
def search_positive(x, w, nmax, scale, q, scratch):
    """Scale and codes of each lane: ``make_qp_quants`` of ik_llama.cpp.

    ``x`` and ``w`` (n, LANES) float32 are read, ``scale`` (LANES,) and ``q`` (n, LANES) float32 written.  A negative
    value, which only IQ2_XXS has, ends up as the byte that ggml stores.  Where all weights vanish the scale is 0, as
    in llama.cpp; ik_llama.cpp divides 0 by 0.
    """
    n = x.shape[0]
    most, inverse, trial, s1 = scratch[0], scratch[1], scratch[2], scratch[3]
    s2, best, err = scratch[4], scratch[5], scratch[6]
    top = np.float32(nmax)
    for k in range(LANES):
        most[k] = _0
        best[k] = _0
        s1[k] = _0
        s2[k] = _0
    for e in range(n):
        for k in range(LANES):
            most[k] = max(most[k], x[e, k])
    for k in range(LANES):
        inverse[k] = top / most[k]
        scale[k] = _1 / inverse[k]
    for e in range(n):
        for k in range(LANES):
            diff = x[e, k] - scale[k] * _as_byte(nint(inverse[k] * x[e, k]))
            best[k] += (w[e, k] * diff) * diff
    for step in range(-4, 5):
        if step == 0:
            continue
        for k in range(LANES):
            trial[k] = (np.float32(0.1) * np.float32(step) + top) / most[k]
            scale[k] = _1 / trial[k]
            err[k] = _0
        for e in range(n):
            for k in range(LANES):
                diff = x[e, k] - scale[k] * min(nint(trial[k] * x[e, k]), top)
                err[k] += (w[e, k] * diff) * diff
        for k in range(LANES):
            better = err[k] < best[k]
            best[k] = err[k] if better else best[k]
            inverse[k] = trial[k] if better else inverse[k]
    for e in range(n):
        for k in range(LANES):
            code = min(nint(inverse[k] * x[e, k]), top)
            q[e, k] = _as_byte(code)
            s1[k] += (w[e, k] * x[e, k]) * code
            s2[k] += (w[e, k] * code) * code
    for _ in range(5):
        if not _sweep(x, w, top, s1, s2, q):
            break
    for k in range(LANES):
        nothing = most[k] < _NOTHING
        scale[k] = _0 if nothing | (s2[k] == _0) else s1[k] / s2[k]
        for e in range(n):
            q[e, k] = _0 if nothing else q[e, k]


@inlined
def _sweep(x, w, top, s1, s2, q):
    """Give each code in turn the value that fits the others best; whether any changed."""
    changed = False
    for e in range(x.shape[0]):
        for k in range(LANES):
            wx, code = w[e, k] * x[e, k], q[e, k]
            a1 = s1[k] - wx * code
            a2 = s2[k] - (w[e, k] * code) * code
            new = min(nint((x[e, k] * a2) / a1), top)
            b1 = a1 + wx * new
            b2 = a2 + (w[e, k] * new) * new
            better = (a1 > _0) & (a2 > _0) & (new != code) & ((b1 * b1) * s2[k] > (s1[k] * s1[k]) * b2)
            q[e, k] = _as_byte(new) if better else code
            s1[k] = b1 if better else s1[k]
            s2[k] = b2 if better else s2[k]
            changed |= better
    return changed
