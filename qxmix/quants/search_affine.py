"""The searches of a scale and a minimum, for types whose weights are ``scale * code + minimum`` with codes 0..nmax.

A trial inverse scale gives codes, the codes give the best scale and minimum in closed form, and the pair with the
least weighted error is kept.  The minimum never exceeds zero.  From the first better trial on, the codes of the next
ones are counted from the minimum kept so far, as in the engines.

All arrays are (n, LANES) or (LANES,); codes are kept as float32, since the arithmetic needs them as such.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES
from qxmix.quants.numerics import nint

AFFINE_ROWS = 16
"""Rows of (rows, LANES) scratch that the searches need, of float32 and of float64."""

_FLAT = np.float32(1e-10)
"""A block whose values span less than this is stored as its minimum."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_ZERO = np.float64(0.0)
_TWO = np.float64(2.0)


@inlined
def _span(x, least, most):
    """Smallest value of each lane, at most zero, and the largest."""
    for k in range(LANES):
        least[k] = x[0, k]
        most[k] = x[0, k]
    for e in range(1, x.shape[0]):
        for k in range(LANES):
            v = x[e, k]
            least[k] = min(least[k], v)
            most[k] = max(most[k], v)
    for k in range(LANES):
        least[k] = min(least[k], _0)


@kernel
def search_affine_f32(x, w, nmax, first, step, n_steps, power, scale, minimum, q, trial_q, scratch):
    """Scale, minimum (not above 0) and codes in ``[0, nmax]`` of each lane: ``make_qkx2_quants`` of ggml.

    Trials are ``(first + step * i) + nmax`` for i in ``0..n_steps``.  The error, weighted by ``w``, counts in its
    ``power`` 1 or 2.  A flat block gets scale 0 and codes 0.
    """
    n = x.shape[0]
    most, lowest, sum_w, sum_x = scratch[0], scratch[1], scratch[2], scratch[3]
    sl, sl2, sxl, best = scratch[4], scratch[5], scratch[6], scratch[7]
    inverse, t_scale, t_min, err = scratch[8], scratch[9], scratch[10], scratch[11]
    kept, kept_min = scratch[12], scratch[13]
    top = np.float32(nmax)
    absolute = power == 1
    _span(x, lowest, most)
    for k in range(LANES):
        minimum[k] = lowest[k]
        kept_min[k] = lowest[k]
        kept[k] = top / (most[k] - lowest[k])
        scale[k] = _1 / kept[k]
        best[k] = _0
        sum_w[k] = _0
        sum_x[k] = _0
    for e in range(n):
        for k in range(LANES):
            sum_w[k] += w[e, k]
            sum_x[k] += w[e, k] * x[e, k]
            code = min(max(nint(kept[k] * (x[e, k] - lowest[k])), _0), top)
            diff = (scale[k] * code + lowest[k]) - x[e, k]
            best[k] += w[e, k] * (abs(diff) if absolute else diff * diff)
    for i in range(n_steps + 1):
        trial = (first + step * np.float32(i)) + top
        for k in range(LANES):
            inverse[k] = trial / (most[k] - minimum[k])
            sl[k] = _0
            sl2[k] = _0
            sxl[k] = _0
            err[k] = _0
        for e in range(n):
            for k in range(LANES):
                code = min(max(nint(inverse[k] * (x[e, k] - minimum[k])), _0), top)
                trial_q[e, k] = code
                wl = w[e, k] * code
                sl[k] += wl
                sl2[k] += wl * code
                sxl[k] += wl * x[e, k]
        for k in range(LANES):
            det = sum_w[k] * sl2[k] - sl[k] * sl[k]
            from_zero = (sl2[k] * sum_x[k] - sl[k] * sxl[k]) / det
            over = from_zero > _0
            t_min[k] = _0 if over else from_zero
            t_scale[k] = sxl[k] / sl2[k] if over else (sum_w[k] * sxl[k] - sum_x[k] * sl[k]) / det
            sl[k] = det
        for e in range(n):
            for k in range(LANES):
                diff = (t_scale[k] * trial_q[e, k] + t_min[k]) - x[e, k]
                err[k] += w[e, k] * (abs(diff) if absolute else diff * diff)
        for k in range(LANES):
            better = (sl[k] > _0) & (err[k] < best[k])
            kept[k] = inverse[k] if better else kept[k]
            kept_min[k] = minimum[k] if better else kept_min[k]
            best[k] = err[k] if better else best[k]
            scale[k] = t_scale[k] if better else scale[k]
            minimum[k] = t_min[k] if better else minimum[k]
    for e in range(n):
        for k in range(LANES):
            q[e, k] = min(max(nint(kept[k] * (x[e, k] - kept_min[k])), _0), top)
    _store_flat(most, lowest, scale, minimum, q)


@inlined
def _store_flat(most, lowest, scale, minimum, q):
    for k in range(LANES):
        if most[k] - lowest[k] < _FLAT:
            scale[k] = _0
            minimum[k] = lowest[k]
            for e in range(q.shape[0]):
                q[e, k] = _0


@kernel
def search_affine(x, w, nmax, scale, minimum, q, wx, scratch, sums):
    """Scale, minimum (not above 0) and codes in ``[0, nmax]``: ``make_qkx3_quants`` of ik_llama.cpp (PR 302).

    37 trials from ``nmax - 0.9`` to ``nmax + 0.9``; then one code moved at a time, that with the largest error, while
    the error falls.  Sums are float64 in element order, as there.  ``wx`` is (n, LANES) float64, ``scratch`` and
    ``sums`` are (AFFINE_ROWS, LANES) float32 and float64.  A flat block gets scale 0 and codes 0.

    The products of the sums are exact in float64 (24 bits of weight, 24 of value, at most 5 of a code), so it does not
    matter in which order they are multiplied, and ``w * x`` is multiplied once.
    """
    n = x.shape[0]
    most, lowest, inverse, kept, kept_min = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    sum_w, sum_x, sum_x2, best = sums[0], sums[1], sums[2], sums[3]
    sl, sl2, sxl = sums[4], sums[5], sums[6]
    k_sl, k_sl2, k_sxl = sums[7], sums[8], sums[9]
    top = np.float32(nmax)
    _span(x, lowest, most)
    for k in range(LANES):
        minimum[k] = lowest[k]
        kept_min[k] = lowest[k]
        kept[k] = top / (most[k] - lowest[k])
        scale[k] = _1 / kept[k]
    for r in range(10):
        for k in range(LANES):
            sums[r, k] = _ZERO
    for e in range(n):
        for k in range(LANES):
            weight, value = np.float64(w[e, k]), np.float64(x[e, k])
            wx[e, k] = weight * value
            sum_w[k] += weight
            sum_x[k] += wx[e, k]
            sum_x2[k] += wx[e, k] * value
            code = np.float64(min(max(nint(kept[k] * (x[e, k] - lowest[k])), _0), top))
            diff = (np.float64(scale[k]) * code + np.float64(lowest[k])) - value
            best[k] += weight * (diff * diff)
            k_sl[k] += weight * code
            k_sl2[k] += (weight * code) * code
            k_sxl[k] += wx[e, k] * code
    for i in range(37):
        trial = (np.float32(-0.9) + np.float32(0.05) * np.float32(i)) + top
        for k in range(LANES):
            inverse[k] = trial / (most[k] - minimum[k])
            sl[k] = _ZERO
            sl2[k] = _ZERO
            sxl[k] = _ZERO
        for e in range(n):
            for k in range(LANES):
                code = np.float64(min(max(nint(inverse[k] * (x[e, k] - minimum[k])), _0), top))
                wl = np.float64(w[e, k]) * code
                sl[k] += wl
                sl2[k] += wl * code
                sxl[k] += wx[e, k] * code
        for k in range(LANES):
            det = sum_w[k] * sl2[k] - sl[k] * sl[k]
            t_min = (sl2[k] * sum_x[k] - sl[k] * sxl[k]) / det
            over = t_min > _ZERO
            t_min = _ZERO if over else t_min
            t_scale = sxl[k] / sl2[k] if over else (sum_w[k] * sxl[k] - sum_x[k] * sl[k]) / det
            err = sum_x2[k] - (_TWO * t_scale) * sxl[k]
            err = err - (_TWO * t_min) * sum_x[k]
            err = err + ((_TWO * t_scale) * t_min) * sl[k]
            err = err + (t_scale * t_scale) * sl2[k]
            err = err + (t_min * t_min) * sum_w[k]
            better = (det > _ZERO) & (err < best[k])
            best[k] = err if better else best[k]
            k_sl[k] = sl[k] if better else k_sl[k]
            k_sl2[k] = sl2[k] if better else k_sl2[k]
            k_sxl[k] = sxl[k] if better else k_sxl[k]
            kept[k] = inverse[k] if better else kept[k]
            kept_min[k] = minimum[k] if better else kept_min[k]
            scale[k] = np.float32(t_scale) if better else scale[k]
            minimum[k] = np.float32(t_min) if better else minimum[k]
    for e in range(n):
        for k in range(LANES):
            q[e, k] = min(max(nint(kept[k] * (x[e, k] - kept_min[k])), _0), top)
    _refine_affine(x, w, wx, top, scale, minimum, q, scratch, sums)
    _store_flat(most, lowest, scale, minimum, q)


@inlined
def _gain(scale, minimum, sum_w, sum_x, sl, sl2, sxl):
    """What scale and minimum explain of the weighted energy, in the order the reference sums it."""
    gain = (_TWO * scale) * sxl + (_TWO * minimum) * sum_x
    gain = gain - ((_TWO * scale) * minimum) * sl
    gain = gain - (scale * scale) * sl2
    return gain - (minimum * minimum) * sum_w


@kernel
def _refine_affine(x, w, wx, top, scale, minimum, q, scratch, sums):
    """Move the code with the largest error, one at a time, while that explains more."""
    n = x.shape[0]
    most, lowest, largest, at, toward = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    last_at, last_toward, active = scratch[5], scratch[6], scratch[7]
    sum_w, sum_x, best = sums[0], sums[1], sums[3]
    sl, sl2, sxl = sums[7], sums[8], sums[9]
    n_active = 0
    for k in range(LANES):
        last_at[k] = -_1
        last_toward[k] = _0
        spans = most[k] - lowest[k] >= _FLAT
        active[k] = _1 if spans else _0
        n_active += spans
        best[k] = _gain(np.float64(scale[k]), np.float64(minimum[k]), sum_w[k], sum_x[k], sl[k], sl2[k], sxl[k])
    moves = 0
    while n_active > 0 and moves < n * int(top):
        moves += 1
        for k in range(LANES):
            largest[k] = _0
            at[k] = -_1
            toward[k] = _0
        for e in range(n):
            for k in range(LANES):
                g = (x[e, k] - scale[k] * q[e, k]) - minimum[k]
                free = ((g > _0) & (q[e, k] < top)) | ((g < _0) & (q[e, k] > _0))
                better = free & (abs(g) > largest[k])
                largest[k] = abs(g) if better else largest[k]
                at[k] = np.float32(e) if better else at[k]
                toward[k] = (_1 if g > _0 else -_1) if better else toward[k]
        for k in range(LANES):
            if active[k] == _0:
                continue
            moved = False
            if at[k] >= _0 and not (at[k] == last_at[k] and toward[k] == -last_toward[k]):
                e, way = int(at[k]), np.float64(toward[k])
                weight = np.float64(w[e, k])
                n_sl = sl[k] + weight * way
                n_sl2 = sl2[k] + weight * ((_TWO * np.float64(q[e, k])) * way + np.float64(1.0))
                n_sxl = sxl[k] + wx[e, k] * way
                det = sum_w[k] * n_sl2 - n_sl * n_sl
                t_scale = (sum_w[k] * n_sxl - sum_x[k] * n_sl) / det
                t_min = (n_sl2 * sum_x[k] - n_sl * n_sxl) / det
                if t_min > _ZERO:
                    t_min = _ZERO
                    t_scale = n_sxl / n_sl2
                gain = _gain(t_scale, t_min, sum_w[k], sum_x[k], n_sl, n_sl2, n_sxl)
                if det > _ZERO and not t_scale < _ZERO and gain > best[k]:
                    moved = True
                    best[k] = gain
                    sl[k] = n_sl
                    sl2[k] = n_sl2
                    sxl[k] = n_sxl
                    scale[k] = np.float32(t_scale)
                    minimum[k] = np.float32(t_min)
                    q[e, k] += toward[k]
                    last_at[k] = at[k]
                    last_toward[k] = toward[k]
            if not moved:
                active[k] = _0
                n_active -= 1
