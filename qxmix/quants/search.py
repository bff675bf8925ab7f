"""The scale search over linear levels, and what it shares with that over level tables (``search_table``).

Blocks lie side by side.  A block of n values x with weights w gets levels q and a scale s.  For given levels the best
scale is ``s1 / s2`` with ``s1 = sum w x q`` and ``s2 = sum w q q``, and it explains ``s1 * s1 / s2`` of the weighted
energy; every search maximizes that.  ``gradient`` is ik_llama.cpp's PR 295: more trial scales than before, and then
one level moved at a time along the gradient while that explains more.  ``heuristic`` is what llama.cpp does: fewer
trial scales, no moves.  ``exhaustive`` visits all roundings that are the best of some scale (``exhaustive.py``).

All arrays are (n, LANES) or (LANES,) float32; ``scratch`` is (SCRATCH_ROWS, LANES).  Levels are kept as float32: the
arithmetic needs them as such, and packing converts them once.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.exhaustive import search_exhaustive
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES
from qxmix.quants.numerics import nint

GRADIENT, HEURISTIC, EXHAUSTIVE = 0, 1, 2
"""Indices into ``codec.SEARCHES``."""

SCRATCH_ROWS = 12
ZERO_BLOCK = np.float32(1e-15)
"""A block whose largest magnitude is below this is stored as zero (GROUP_MAX_EPS in ggml)."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)


@inlined
def weigh(x, w, wx):
    """``wx = w * x``: the product that every sum starts from."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            wx[e, k] = w[e, k] * x[e, k]


@inlined
def block_max(x, amax, mx):
    """Largest magnitude of each lane and the value that has it; the first one wins, as in ggml."""
    for k in range(LANES):
        amax[k] = _0
        mx[k] = _0
    for e in range(x.shape[0]):
        for k in range(LANES):
            v = x[e, k]
            better = abs(v) > amax[k]
            amax[k] = abs(v) if better else amax[k]
            mx[k] = v if better else mx[k]


@inlined
def keep_better(trial, t1, t2, kept, best, s1, s2):
    """Where a trial explains more than what is kept, keep its inverse scale and sums.

    ``best`` is ``fl(fl(s1 / s2) * s1)`` of what is kept, as the reference computes it.
    """
    for k in range(LANES):
        better = (t2[k] > _0) & (t1[k] * t1[k] > best[k] * t2[k])
        kept[k] = trial[k] if better else kept[k]
        best[k] = (t1[k] / t2[k]) * t1[k] if better else best[k]
        s1[k] = t1[k] if better else s1[k]
        s2[k] = t2[k] if better else s2[k]


@inlined
def _try_linear(x, w, wx, low, high, inverse, t1, t2):
    """Sums of the levels ``nint(inverse * x)``, clamped to ``[low, high]``."""
    for k in range(LANES):
        t1[k] = _0
        t2[k] = _0
    for e in range(x.shape[0]):
        for k in range(LANES):
            q = min(max(nint(inverse[k] * x[e, k]), low), high)
            t1[k] += wx[e, k] * q
            t2[k] += (w[e, k] * q) * q


@inlined
def _try_capped(x, w, wx, high, inverse, t1, t2):
    """The same where no level can round to less than the lowest: the loop is bound by its ten operations a weight."""
    for k in range(LANES):
        t1[k] = _0
        t2[k] = _0
    for e in range(x.shape[0]):
        for k in range(LANES):
            q = min(nint(inverse[k] * x[e, k]), high)
            t1[k] += wx[e, k] * q
            t2[k] += (w[e, k] * q) * q


@kernel
def search_linear(x, w, nmax, method, scale, q, wx, scratch):
    """Scale and levels in ``[-nmax, nmax - 1]`` of each lane: ``make_qx_quants`` of ik_llama.cpp, or exhaustive.

    ``x`` and ``w`` are read; ``scale`` (LANES,), ``q`` (n, LANES) are written; ``wx`` (n, LANES) is scratch.
    A zero block gets scale 0 and the lowest level, as in ggml.
    """
    amax, mx = scratch[0], scratch[1]
    block_max(x, amax, mx)
    if method == EXHAUSTIVE:
        search_exhaustive(x, w, np.arange(-nmax, nmax).astype(np.float32), scale, q)
    else:
        _scan_linear(x, w, nmax, method, scale, q, wx, scratch)
    for k in range(LANES):
        if amax[k] < ZERO_BLOCK:
            scale[k] = _0
            for e in range(x.shape[0]):
                q[e, k] = np.float32(-nmax)


@inlined
def _scan_linear(x, w, nmax, method, scale, q, wx, scratch):
    """Trial scales around the full range, kept where they explain more; then the moves of ``gradient``."""
    mx, trial, t1, t2 = scratch[1], scratch[2], scratch[3], scratch[4]
    kept, best, s1, s2 = scratch[5], scratch[6], scratch[7], scratch[8]
    low, high = np.float32(-nmax), np.float32(nmax - 1)
    weigh(x, w, wx)
    for k in range(LANES):
        kept[k] = low / mx[k]
    _try_capped(x, w, wx, high, kept, s1, s2)
    for k in range(LANES):
        scale[k] = s1[k] / s2[k] if s2[k] != _0 else _0
        best[k] = scale[k] * s1[k]
    for step in range(-9, 10):
        shift = np.float32(0.1) * np.float32(step)
        # Step 0 is the first trial again.  It stays: where rounding lets a worse trial win, it may win back.
        for k in range(LANES):
            trial[k] = -(np.float32(nmax) + shift) / mx[k]
        if step < 5:  # noqa: PLR2004 - below nmax + 0.5 nothing rounds to -nmax - 1
            _try_capped(x, w, wx, high, trial, t1, t2)
        else:
            _try_linear(x, w, wx, low, high, trial, t1, t2)
        keep_better(trial, t1, t2, kept, best, s1, s2)
        if method == GRADIENT:
            for k in range(LANES):
                trial[k] = (high + shift) / mx[k]
            _try_capped(x, w, wx, high, trial, t1, t2)
            keep_better(trial, t1, t2, kept, best, s1, s2)
    for e in range(x.shape[0]):
        for k in range(LANES):
            q[e, k] = min(max(nint(kept[k] * x[e, k]), low), high)
    for k in range(LANES):
        scale[k] = s1[k] / s2[k] if s2[k] != _0 else _0
    if method == GRADIENT:
        _refine_linear(x, w, wx, nmax, scale, best, s1, s2, q, scratch)


@kernel
def _refine_linear(x, w, wx, nmax, scale, best, s1, s2, q, scratch):
    """Move one level at a time, that with the largest gradient, while it explains more.

    Measured on student-t weights: the first pass ends 98 % of the blocks, three passes end all 64 of a lane group, so
    passes over all lanes cost less than collecting the active ones.
    """
    amax, grad, at, active = scratch[0], scratch[2], scratch[3], scratch[4]
    n = x.shape[0]
    low, high = np.float32(-nmax), np.float32(nmax - 1)
    n_active = 0
    for k in range(LANES):
        active[k] = _1 if amax[k] >= ZERO_BLOCK else _0
        n_active += amax[k] >= ZERO_BLOCK
    moves = 0
    while n_active > 0 and moves < n * (2 * nmax - 1):
        moves += 1
        for k in range(LANES):
            grad[k] = _0
            at[k] = _0
        for e in range(n):
            for k in range(LANES):
                g = (scale[k] * w[e, k]) * (x[e, k] - scale[k] * q[e, k])
                free = ((g > _0) & (q[e, k] < high)) | ((g < _0) & (q[e, k] > low))
                better = free & (abs(g) > abs(grad[k]))
                grad[k] = g if better else grad[k]
                at[k] = np.float32(e) if better else at[k]
        for k in range(LANES):
            if active[k] == _0:
                continue
            e = int(at[k])
            step = _1 if grad[k] > _0 else -_1
            n1 = s1[k] + step * wx[e, k]
            n2 = s2[k] + w[e, k] * (_2 * (step * q[e, k]) + _1)
            if grad[k] != _0 and n2 > _0 and n1 * n1 > best[k] * n2:
                s1[k] = n1
                s2[k] = n2
                scale[k] = n1 / n2
                best[k] = scale[k] * n1
                q[e, k] += step
            else:
                active[k] = _0
                n_active -= 1
