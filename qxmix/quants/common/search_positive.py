"""The search of a scale for values that are not negative, with codes 0..nmax: the scales and minimums of blocks.

WIDTH lanes are searched at a time.  With loops over lanes in memory, of which LLVM makes code for arrays that overlap
and for those that do not, the first use of Q4_K took 9.1 s instead of 7.4, and its encoder a tenth longer.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, any_lane, floor, load, splat, store, where
from qxmix.quants.jit import inlined, kernel

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_NOTHING = np.float32(1e-16)
"""Where the largest value is below this, all codes are zero."""


@inlined
def _nearest(value):
    """``numerics.nint`` of each lane."""
    return (value + _MAGIC) - _MAGIC


@inlined
def _as_byte(code):
    """What is left of a code after it was stored as an unsigned byte: -1 becomes 255, as in ggml."""
    return code - np.float32(256.0) * floor(code * np.float32(1.0 / 256.0))


@kernel
def search_positive(x, w, nmax, scale, q):
    """Scale and codes of each lane: ``make_qp_quants`` of ik_llama.cpp.

    ``x`` and ``w`` (n, LANES) float32 are read, ``scale`` (LANES,) and ``q`` (n, LANES) float32 written.  A negative
    value, which only IQ2_XXS has, ends up as the byte that ggml stores.  Where all weights vanish the scale is 0, as
    in llama.cpp; ik_llama.cpp divides 0 by 0.
    """
    n, top = x.shape[0], np.float32(nmax)
    for g in range(0, LANES, WIDTH):
        most = best = s1 = s2 = splat(_0)
        for e in range(n):
            most = max(most, load(x, e * LANES + g))
        inverse = top / most
        size = _1 / inverse
        for e in range(n):
            value = load(x, e * LANES + g)
            diff = value - size * _as_byte(_nearest(inverse * value))
            best = best + (load(w, e * LANES + g) * diff) * diff
        for step in range(-4, 5):
            if step == 0:
                continue
            trial = (np.float32(0.1) * np.float32(step) + top) / most
            size, err = _1 / trial, splat(_0)
            for e in range(n):
                value = load(x, e * LANES + g)
                diff = value - size * min(_nearest(trial * value), top)
                err = err + (load(w, e * LANES + g) * diff) * diff
            better = err < best
            best, inverse = where(better, err, best), where(better, trial, inverse)
        for e in range(n):
            value, weight = load(x, e * LANES + g), load(w, e * LANES + g)
            code = min(_nearest(inverse * value), top)
            store(q, e * LANES + g, _as_byte(code))
            s1, s2 = s1 + (weight * value) * code, s2 + (weight * code) * code
        for _ in range(5):
            changed, s1, s2 = _sweep(x, w, g, top, s1, s2, q)
            if not any_lane(changed):
                break
        nothing = most < _NOTHING
        store(scale, g, where(nothing | (s2 == _0), splat(_0), s1 / s2))
        for e in range(n):
            store(q, e * LANES + g, where(nothing, splat(_0), load(q, e * LANES + g)))


@inlined
def _sweep(x, w, g, top, s1, s2, q):
    """Give each code in turn the value that fits the others best; in which lanes any changed, and the sums."""
    changed = splat(_1) < _0
    for e in range(x.shape[0]):
        value, weight, code = load(x, e * LANES + g), load(w, e * LANES + g), load(q, e * LANES + g)
        wx = weight * value
        a1, a2 = s1 - wx * code, s2 - (weight * code) * code
        new = min(_nearest((value * a2) / a1), top)
        b1, b2 = a1 + wx * new, a2 + (weight * new) * new
        better = (a1 > _0) & (a2 > _0) & (new != code) & ((b1 * b1) * s2 > (s1 * s1) * b2)
        store(q, e * LANES + g, where(better, _as_byte(new), code))
        s1, s2, changed = where(better, b1, s1), where(better, b2, s2), changed | better
    return changed, s1, s2
