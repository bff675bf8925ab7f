"""The searches of a scale and a minimum, for types whose weights are ``scale * code + minimum`` with codes 0..nmax.

A trial inverse scale gives codes, the codes give the best scale and minimum in closed form, and the pair with the
least weighted error is kept.  The minimum never exceeds zero.  From the first better trial on, the codes of the next
ones are counted from the minimum kept so far, as in the engines.

Arrays are (n, LANES) or (LANES,), WIDTH lanes are searched at a time; codes are kept as float32, since the arithmetic
needs them as such.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, add_exact_product, any_lane, load, narrow, splat, store, where, widen
from qxmix.quants.jit import inlined, kernel

_FLAT = np.float32(1e-10)
"""A block whose values span less than this is stored as its minimum."""

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)
_TWO = np.float64(2.0)


@inlined
def _span(x, g):
    """Smallest value of each lane, at most zero, and the largest."""
    least = load(x, g)
    most = least
    for e in range(1, x.shape[0]):
        value = load(x, e * LANES + g)
        least = min(least, value)
        most = max(most, value)
    return min(least, _0), most


@inlined
def _code(value, minimum, inverse, top):
    """Code of a value, clamped to ``[0, top]``; ``nearest_int`` of ggml."""
    return min(max((inverse * (value - minimum) + _MAGIC) - _MAGIC, _0), top)


@inlined
def _error(value, weight, code, scale, minimum, power):
    diff = (scale * code + minimum) - value
    return weight * abs(diff) if power == 1 else weight * (diff * diff)


@kernel
def search_affine_f32(x, w, nmax, first, n_steps, power, scale, minimum, q):
    """Scale, minimum (not above 0) and codes in ``[0, nmax]`` of each lane: ``make_qkx2_quants`` of ggml.

    Trials are ``(first + 0.1 * i) + nmax`` for i in ``0..n_steps``.  The error, weighted by ``w``, counts in its
    ``power`` 1 or 2.  A flat block gets scale 0 and codes 0.
    """
    n = x.shape[0]
    top, step = np.float32(nmax), np.float32(0.1)
    trial_q = np.empty((n, WIDTH), np.float32)
    for g in range(0, LANES, WIDTH):
        lowest, most = _span(x, g)
        kept, kept_min, low = top / (most - lowest), lowest, lowest
        size = _1 / kept
        sum_w = sum_x = best = splat(_0)
        for e in range(n):
            value, weight = load(x, e * LANES + g), load(w, e * LANES + g)
            sum_w = sum_w + weight
            sum_x = sum_x + weight * value
            best = best + _error(value, weight, _code(value, lowest, kept, top), size, lowest, power)
        for i in range(n_steps + 1):
            inverse = ((first + step * np.float32(i)) + top) / (most - low)
            sl = sl2 = sxl = err = splat(_0)
            for e in range(n):
                value, weight = load(x, e * LANES + g), load(w, e * LANES + g)
                code = _code(value, low, inverse, top)
                store(trial_q, e * WIDTH, code)
                wl = weight * code
                sl = sl + wl
                sl2 = sl2 + wl * code
                sxl = sxl + wl * value
            det = sum_w * sl2 - sl * sl
            t_min = (sl2 * sum_x - sl * sxl) / det
            over = t_min > _0
            t_min = where(over, splat(_0), t_min)
            t_size = where(over, sxl, sum_w * sxl - sum_x * sl) / where(over, sl2, det)
            for e in range(n):
                value, weight = load(x, e * LANES + g), load(w, e * LANES + g)
                err = err + _error(value, weight, load(trial_q, e * WIDTH), t_size, t_min, power)
            better = (det > _0) & (err < best)
            kept, kept_min = where(better, inverse, kept), where(better, low, kept_min)
            best, size, low = where(better, err, best), where(better, t_size, size), where(better, t_min, low)
        spans = most - lowest >= _FLAT
        for e in range(n):
            code = _code(load(x, e * LANES + g), kept_min, kept, top)
            store(q, e * LANES + g, where(spans, code, splat(_0)))
        store(scale, g, where(spans, size, splat(_0)))
        store(minimum, g, where(spans, low, lowest))


@inlined
def _fit(sum_w, sum_x, sl, sl2, sxl):
    """Best scale and minimum for the codes that these sums are of, and the determinant, which must be positive."""
    det = sum_w * sl2 - sl * sl
    minimum = (sl2 * sum_x - sl * sxl) / det
    over = minimum > 0.0
    # Above zero the minimum becomes zero, and the scale the best for that.
    size = where(over, sxl, sum_w * sxl - sum_x * sl) / where(over, sl2, det)
    return size, where(over, splat(0.0), minimum), det


@kernel
def search_affine(x, w, nmax, scale, minimum, q):
    """Scale, minimum (not above 0) and codes in ``[0, nmax]``: ``make_qkx3_quants`` of ik_llama.cpp (PR 302).

    37 trials from ``nmax - 0.9`` to ``nmax + 0.9``; then one code moved at a time, that with the largest error, while
    the error falls.  Sums are float64 in element order, as there.  A flat block gets scale 0 and codes 0.

    The products that are summed are exact in float64 (24 bits of weight, 24 of value, at most 5 of a code), so it does
    not matter in which order their factors are multiplied, nor whether the addition is fused.
    """
    n = x.shape[0]
    top = np.float32(nmax)
    weights, products = np.empty((n, WIDTH), np.float64), np.empty((n, WIDTH), np.float64)
    for g in range(0, LANES, WIDTH):
        lowest, most = _span(x, g)
        kept, kept_min, low = top / (most - lowest), lowest, lowest
        size = _1 / kept
        sum_w = sum_x = sum_x2 = best = k_sl = k_sl2 = k_sxl = splat(0.0)
        for e in range(n):
            weight, value = widen(load(w, e * LANES + g)), widen(load(x, e * LANES + g))
            product = weight * value
            store(weights, e * WIDTH, weight)
            store(products, e * WIDTH, product)
            code = widen(_code(load(x, e * LANES + g), lowest, kept, top))
            diff = (widen(size) * code + widen(lowest)) - value
            sum_w, sum_x, sum_x2 = sum_w + weight, sum_x + product, sum_x2 + product * value
            best = best + weight * (diff * diff)
            k_sl, k_sl2, k_sxl = k_sl + weight * code, k_sl2 + (weight * code) * code, k_sxl + product * code
        for i in range(37):
            inverse = ((np.float32(-0.9) + np.float32(0.05) * np.float32(i)) + top) / (most - low)
            sl = sl2 = sxl = splat(0.0)
            for e in range(n):
                code = widen(_code(load(x, e * LANES + g), low, inverse, top))
                wl = load(weights, e * WIDTH) * code
                sl, sl2 = sl + wl, add_exact_product(sl2, wl, code)
                sxl = add_exact_product(sxl, load(products, e * WIDTH), code)
            t_size, t_min, det = _fit(sum_w, sum_x, sl, sl2, sxl)
            err = (sum_x2 - (_TWO * t_size) * sxl) - (_TWO * t_min) * sum_x
            err = err + ((_TWO * t_size) * t_min) * sl
            err = (err + (t_size * t_size) * sl2) + (t_min * t_min) * sum_w
            better = (det > 0.0) & (err < best)
            kept, kept_min, best = where(better, inverse, kept), where(better, low, kept_min), where(better, err, best)
            k_sl, k_sl2, k_sxl = where(better, sl, k_sl), where(better, sl2, k_sl2), where(better, sxl, k_sxl)
            size, low = where(better, narrow(t_size), size), where(better, narrow(t_min), low)
        for e in range(n):
            store(q, e * LANES + g, _code(load(x, e * LANES + g), kept_min, kept, top))
        spans = most - lowest >= _FLAT
        size, low = _refine(x, w, g, top, spans, size, low, q, sum_w, sum_x, k_sl, k_sl2, k_sxl)
        for e in range(n):
            store(q, e * LANES + g, where(spans, load(q, e * LANES + g), splat(_0)))
        store(scale, g, where(spans, size, splat(_0)))
        store(minimum, g, where(spans, low, lowest))


@inlined
def _gain(scale, minimum, sum_w, sum_x, sl, sl2, sxl):
    """What scale and minimum explain of the weighted energy, in the order the reference sums it."""
    gain = (_TWO * scale) * sxl + (_TWO * minimum) * sum_x
    gain = gain - ((_TWO * scale) * minimum) * sl
    return (gain - (scale * scale) * sl2) - (minimum * minimum) * sum_w


@inlined
def _refine(x, w, g, top, spans, size, low, q, sum_w, sum_x, sl, sl2, sxl):
    """Move the code with the largest error, one at a time, while that explains more; returns scale and minimum."""
    n = x.shape[0]
    best = _gain(widen(size), widen(low), sum_w, sum_x, sl, sl2, sxl)
    last_at, last_toward, active = splat(-_1), splat(_0), spans
    moves = 0
    while any_lane(active) and moves < n * int(top):
        moves += 1
        largest = at = weight = value = code = splat(_0)
        for e in range(n):
            xe, qe = load(x, e * LANES + g), load(q, e * LANES + g)
            error = (xe - size * qe) - low
            free = ((error > _0) & (qe < top)) | ((error < _0) & (qe > _0))
            better = free & (abs(error) > abs(largest))
            largest, at = where(better, error, largest), where(better, splat(np.float32(e)), at)
            weight, value = where(better, load(w, e * LANES + g), weight), where(better, xe, value)
            code = where(better, qe, code)
        toward = where(largest > _0, splat(_1), splat(-_1))
        change = widen(weight * toward)
        n_sl = sl + change
        n_sl2 = sl2 + widen(weight) * widen((_2 * code) * toward + _1)
        n_sxl = sxl + change * widen(value)
        t_size, t_min, det = _fit(sum_w, sum_x, n_sl, n_sl2, n_sxl)
        gain = _gain(t_size, t_min, sum_w, sum_x, n_sl, n_sl2, n_sxl)
        active = active & (largest != _0) & ((at != last_at) | (toward != -last_toward))
        active = active & (det > 0.0) & (t_size >= 0.0) & (gain > best)
        best, sl, sl2 = where(active, gain, best), where(active, n_sl, sl), where(active, n_sl2, sl2)
        sxl, size = where(active, n_sxl, sxl), where(active, narrow(t_size), size)
        low, last_at = where(active, narrow(t_min), low), where(active, at, last_at)
        last_toward = where(active, toward, last_toward)
        if any_lane(active):
            for e in range(n):
                here, qe = active & (at == np.float32(e)), load(q, e * LANES + g)
                store(q, e * LANES + g, where(here, qe + toward, qe))
    return size, low
