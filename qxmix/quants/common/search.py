"""The scale search over linear levels, and what it shares with that over level tables (``search_table``).

Blocks lie side by side.  A block of n values x with weights w gets levels q and a scale s.  For given levels the best
scale is ``s1 / s2`` with ``s1 = sum w x q`` and ``s2 = sum w q q``, and it explains ``s1 * s1 / s2`` of the weighted
energy; every search maximizes that.  ``gradient`` is ik_llama.cpp's PR 295: more trial scales than before, and then
one level moved at a time along the gradient while that explains more.  ``heuristic`` is what llama.cpp does: fewer
trial scales, no moves.  ``exhaustive`` visits all roundings that are the best of some scale (``exhaustive.py``).

All arrays are (n, LANES) or (LANES,) float32.  Levels are kept as float32: the
arithmetic needs them as such, and packing converts them once.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import BlockSearch, Columns, Rows
from qxmix.quants.common.exhaustive import exhaustive_search
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import nint
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.jit import inlined, kernel

GRADIENT, HEURISTIC, EXHAUSTIVE = 0, 1, 2
"""Indices into ``codec.SEARCHES``."""

ZERO_BLOCK = np.float32(1e-15)
"""A block whose largest magnitude is below this is stored as zero (GROUP_MAX_EPS in ggml)."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one


@inlined
def largest_value(x, g):
    """Largest magnitude of each lane and the value that has it; the first one wins, as in ggml."""
    amax = mx = splat(_0)
    for e in range(x.shape[0]):
        value = load(x, e * LANES + g)
        better = abs(value) > amax
        amax, mx = where(better, abs(value), amax), where(better, value, mx)
    return amax, mx


@inlined
def _sums(x, w, wx, g, low, high, inverse, capped):
    """``sum w x q`` and ``sum w q q`` of the levels ``nint(inverse * x)``, clamped to ``[low, high]``.

    ``capped``: none can round to less than ``low``.  The loop is bound by its operations, ten a weight at most.
    """
    t1 = t2 = splat(_0)
    for e in range(x.shape[0]):
        level = min((inverse * load(x, e * LANES + g) + _MAGIC) - _MAGIC, high)
        if not capped:
            level = max(level, low)
        t1 = t1 + load(wx, e * WIDTH) * level
        t2 = t2 + (load(w, e * LANES + g) * level) * level
    return t1, t2


@inlined
def _zero_as_in_ggml(x, low, scale, q):
    """Scale 0 and the lowest level where the largest magnitude is next to nothing."""
    for g in range(0, LANES, WIDTH):
        amax, _ = largest_value(x, g)
        found = amax >= ZERO_BLOCK
        store(scale, g, where(found, load(scale, g), splat(_0)))
        for e in range(x.shape[0]):
            store(q, e * LANES + g, where(found, load(q, e * LANES + g), splat(low)))


@kernel
def scan_linear(x, w, nmax, search, scale, q):
    """Scale and levels in ``[-nmax, nmax - 1]`` of each lane: ``make_qx_quants`` of ik_llama.cpp.

    ``x`` and ``w`` are read; ``scale`` (LANES,), ``q`` (n, LANES) are written.  A zero block gets scale 0 and the
    lowest level, as in ggml.
    """
    n = x.shape[0]
    wx, seen = np.empty((n, WIDTH), np.float32), np.empty((2 * (N_TWINS + 1), WIDTH), np.float32)
    for g in range(0, LANES, WIDTH):
        amax, mx = largest_value(x, g)
        for e in range(n):
            store(wx, e * WIDTH, load(w, e * LANES + g) * load(x, e * LANES + g))
        _scan_linear(x, w, wx, seen, g, nmax, search, amax >= ZERO_BLOCK, mx, scale, q)
    _zero_as_in_ggml(x, np.float32(-nmax), scale, q)


@inlined
def _nearest(y, low, high):
    return min(max((y + _MAGIC) - _MAGIC, low), high)


@inlined
def _index(y, low, high):
    return min(max(nint(y), low), high) - low


_best_linear = exhaustive_search(_nearest, _index, mirrored=True)


@kernel
def best_linear(x, w, nmax, _search, scale, q):
    """As ``scan_linear``, the best of all scales."""
    _best_linear(x, w, np.arange(-nmax, nmax).astype(np.float32), scale, q)
    _zero_as_in_ggml(x, np.float32(-nmax), scale, q)


def linear_search(nmax: int) -> BlockSearch:
    """The search for levels ``[-nmax, nmax - 1]``, to be called from Python."""

    def search_block(x: Rows, w: Rows, search: int, scale: Columns, levels: Rows) -> None:
        (best_linear if search == EXHAUSTIVE else scan_linear)(x, w, nmax, search, scale, levels)

    return search_block


N_TWINS = 4
"""Trials that take the largest to the other end by 0.1 to 0.4 and have a twin that takes it short of -nmax by as much:
scales equal to the bit but for the sign, under which no level is cut off, so that the sums are equal, too."""


@inlined
def _scan_linear(x, w, wx, seen, g, nmax, search, found, mx, scale, q):
    """Trial scales around the full range, kept where they explain more; then the moves of ``gradient``.

    ``best`` is ``fl(fl(s1 / s2) * s1)`` of what is kept, as the reference computes it.  ``seen`` takes the sums of the
    first trial and of those with a twin, which with step 0 are 5 of 38 that need not be summed again.
    """
    low, high = np.float32(-nmax), np.float32(nmax - 1)
    kept = low / mx
    s1, s2 = _sums(x, w, wx, g, low, high, kept, capped=True)
    store(seen, 0, s1)
    store(seen, WIDTH, s2)
    size = where(s2 != _0, s1 / s2, splat(_0))
    best = size * s1
    # Trials come in pairs, one that takes the largest to -nmax, one (of ``gradient`` alone) that takes it to the other
    # end.  Step 0 is the first trial again.  It stays: where rounding lets a worse trial win, it may win back.
    for i in range(38 if search == GRADIENT else 19):
        step = i // 2 - 9 if search == GRADIENT else i - 9
        shift = np.float32(0.1) * np.float32(step)
        down = search != GRADIENT or i % 2 == 0
        trial = (-(np.float32(nmax) + shift) if down else high + shift) / mx
        if step == 0 if down else 1 <= step <= N_TWINS:
            t1, t2 = load(seen, 2 * step * WIDTH), load(seen, (2 * step + 1) * WIDTH)
            t1 = t1 if down else splat(_0) - t1
        else:
            # Below nmax + 0.5 nothing rounds to -nmax - 1.
            t1, t2 = _sums(x, w, wx, g, low, high, trial, capped=step < 5 or not down)  # noqa: PLR2004
        if down and step + 10 <= N_TWINS:
            store(seen, 2 * (step + 10) * WIDTH, t1)
            store(seen, (2 * (step + 10) + 1) * WIDTH, t2)
        better = (t2 > _0) & (t1 * t1 > best * t2)
        kept, best = where(better, trial, kept), where(better, (t1 / t2) * t1, best)
        s1, s2 = where(better, t1, s1), where(better, t2, s2)
    for e in range(x.shape[0]):
        store(q, e * LANES + g, min(max((kept * load(x, e * LANES + g) + _MAGIC) - _MAGIC, low), high))
    size = where(s2 != _0, s1 / s2, splat(_0))
    if search == GRADIENT:
        size = _refine_linear(x, w, wx, g, low, high, found, size, best, s1, s2, q)
    store(scale, g, size)


@inlined
def _refine_linear(x, w, wx, g, low, high, active, size, best, s1, s2, q):
    """Move one level at a time, that with the largest gradient, while it explains more; returns the scale.

    Measured on student-t weights: the first pass ends 98 % of the blocks.
    """
    n = x.shape[0]
    moves = 0
    while any_lane(active) and moves < n * int(high - low):
        moves += 1
        grad = at = weight = product = level = splat(_0)
        for e in range(n):
            we, qe = load(w, e * LANES + g), load(q, e * LANES + g)
            slope = (size * we) * (load(x, e * LANES + g) - size * qe)
            free = ((slope > _0) & (qe < high)) | ((slope < _0) & (qe > low))
            better = free & (abs(slope) > abs(grad))
            grad, at = where(better, slope, grad), where(better, splat(np.float32(e)), at)
            weight, product = where(better, we, weight), where(better, load(wx, e * WIDTH), product)
            level = where(better, qe, level)
        toward = where(grad > _0, splat(_1), splat(-_1))
        n1, n2 = s1 + toward * product, s2 + weight * (_2 * (toward * level) + _1)
        active = active & (grad != _0) & (n2 > _0) & (n1 * n1 > best * n2)
        if any_lane(active):
            s1, s2, size = where(active, n1, s1), where(active, n2, s2), where(active, n1 / n2, size)
            best = where(active, size * n1, best)
            for e in range(n):
                here, qe = active & (at == np.float32(e)), load(q, e * LANES + g)
                store(q, e * LANES + g, where(here, qe + toward, qe))
    return size


@kernel
def search_plain(x, w, nmax, scale, q):
    """Scale and levels in ``[-nmax, nmax - 1]`` of each lane: ``make_qx_quants`` as ik_llama.cpp had it before PR 295.

    It still searches the scales of the blocks of IQ2_K and IQ2_KS.  All zero: scale 0 and the lowest level.
    """
    n = x.shape[0]
    wx = np.empty((n, WIDTH), np.float32)
    low, high = np.float32(-nmax), np.float32(nmax - 1)
    for g in range(0, LANES, WIDTH):
        amax, mx = largest_value(x, g)
        for e in range(n):
            store(wx, e * WIDTH, load(w, e * LANES + g) * load(x, e * LANES + g))
        kept, size, best = low / mx, splat(_0), splat(_0)
        for step in range(-10, 10):
            if step == 0:
                continue
            # The first trial takes the largest to the lowest level, and counts whatever it explains.
            start = step == -10  # noqa: PLR2004
            trial = kept if start else -(np.float32(nmax) + np.float32(0.1) * np.float32(step)) / mx
            t1, t2 = _sums(x, w, wx, g, low, high, trial, capped=False)
            better = t2 != _0 if start else (t2 > _0) & (t1 * t1 > best * t2)
            kept, size = where(better, trial, kept), where(better, t1 / t2, size)
            best = where(better, size * t1, best)
        found = amax > _0
        store(scale, g, where(found, size, splat(_0)))
        for e in range(n):
            level = min(max((kept * load(x, e * LANES + g) + _MAGIC) - _MAGIC, low), high)
            store(q, e * LANES + g, where(found, level, splat(low)))
