"""The scale of a block of 32 weights that are whole multiples of it: Q8_0, whose encoder takes ``largest / 127``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.refine import BLOCK, HALF_UNIT, LARGEST_HALF, half_near, load_block
from qxmix.quants.common.numerics import half_bits, half_value, nint
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import WIDTH, load
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.block32.refine import Refine
    from qxmix.quants.contracts import PackBlock

NEAR = np.float32(0.65)
"""Distance within which every weight has to come out: half a unit, an eighth for the scale, and a little."""
_ROOM = 0.66
"""The same with what float32 rounds."""
_N_ROUNDS = 12
"""Times that weights narrow a step; three are what it mostly takes."""
_AROUND = 2.0**-9
"""Share of a scale by which the step may be another: two to four halves."""
_BY_CHANCE = 1e-5
"""Chance from which on a block says little of a step that it fits."""
_N_BESIDE = 6
"""Halves on either side of a step that are tried for codes that are known."""
_0 = np.float32(0.0)


@inlined
def _multiple(x, scale, top):
    """The whole number from ``-top`` to ``top`` whose multiple of ``scale`` is nearest to ``x``, which is no NaN."""
    return min(max(nint(x / scale), -top), top)


@kernel
def _farthest(x, unit, scale, top, limit):
    """Largest distance of the nearest multiple of ``scale`` to its weight; ends beyond ``limit``."""
    most = _0
    for e in range(BLOCK):
        most = max(most, abs(scale * _multiple(x[e], scale, top) - x[e]) / unit[e])
        if not most < limit:
            break
    return most


@kernel
def step_alone(x, unit, top):
    """The half whose multiples, ``top`` (float32) at most, are nearest to all weights, the largest of equals.

    0 where none has all within ``NEAR``.  The largest weight is the ``k``-th multiple, and the smallest beside zero is
    one, too, which few ``k`` leave possible: that is looked at before any half is.
    """
    i = j = -1
    for e in range(BLOCK):
        if i < 0 or abs(x[e]) > abs(x[i]):
            i = e
        if x[e] != _0 and (j < 0 or abs(x[e]) < abs(x[j])):
            j = e
    least, best = NEAR, _0
    if j < 0:
        return best
    large, around = np.float64(abs(x[i])), _ROOM * np.float64(unit[i])
    small, beside = np.float64(abs(x[j])), _ROOM * np.float64(unit[j])
    least_part, most_part = (small - beside) / (large + around), (small + beside) / (large - around)
    for k in range(1, int(top) + 1):
        if np.ceil(k * least_part) > k * most_part:
            continue
        low, high = (large - around) / k, (large + around) / k
        first, last = int(half_bits(np.float32(high))) + 1, int(half_bits(np.float32(low))) - 1
        for bits in range(min(first, LARGEST_HALF), max(last, 1) - 1, -1):
            scale = half_value(np.uint16(bits))
            if _multiple(abs(x[i]), scale, top) != np.float32(k):
                continue
            far = _farthest(x, unit, scale, top, least)
            if far < least:
                least, best = far, scale
    return best


@kernel
def _multiples(x, unit, low, high, top, q):
    """Signed codes ``q`` of weights that are multiples of one step from ``low`` to ``high``, and what is left of these.

    Large weights can be rounded by nearly half a step, and a half beside the step makes another multiple the nearest.
    Small ones tell the step: each weight that can be one multiple alone narrows it, until no weight does.  Zeros where
    no step explains them.
    """
    for _ in range(_N_ROUNDS):
        before, after = low, high
        for e in range(BLOCK):
            v, room = abs(np.float64(x[e])), HALF_UNIT * np.float64(unit[e])
            least, most = np.ceil((v - room) / high), min(np.floor((v + room) / low), np.float64(top))
            if least > most:
                return 0.0, 0.0
            if least == most and most > 0.0:
                low, high = max(low, (v - room) / most), min(high, (v + room) / most)
            n = min(max(np.rint(2.0 * v / (low + high)), least), most)
            q[e] = np.float32(n if x[e] > _0 else -n)
        if low == before and high == after:
            break
    return low, high


@kernel
def _tells(x, unit, step):
    """Whether weights on no lattice would hardly ever be multiples of a step."""
    chance = 1.0
    for e in range(BLOCK):
        chance *= min(1.0, np.float64(unit[e]) / step) if x[e] != _0 else 1.0
    return chance < _BY_CHANCE


@kernel
def _scale_for(x, unit, q, step):
    """The half within ``_N_BESIDE`` of ``step`` with the least largest distance for these codes; 0 beyond ``NEAR``."""
    least, best, middle = NEAR, _0, int(half_bits(np.float32(step)))
    for i in range(2 * _N_BESIDE + 1):
        bits = half_near(middle, i)
        if not 0 < bits <= LARGEST_HALF:
            continue
        scale, most = half_value(np.uint16(bits)), _0
        for e in range(BLOCK):
            most = max(most, abs(scale * q[e] - x[e]) / unit[e])
            if not most < least:
                break
        if most < least:
            least, best = most, scale
    return best


@kernel
def _alone(x, unit, top, q):
    """Scale, codes and limits of the step of a block by itself; zeros for limits where the nearest multiples are taken.

    All are zeros where it sits on no lattice.
    """
    scale = step_alone(x, unit, top)
    low, high = np.float64(scale) * (1.0 - _AROUND), np.float64(scale) * (1.0 + _AROUND)
    if scale > _0:
        low, high = _multiples(x, unit, low, high, top, q)
        told = _scale_for(x, unit, q, 0.5 * (low + high)) if low > 0.0 else _0
        if told > _0:
            return told, low, high
        for e in range(BLOCK):
            q[e] = _multiple(x[e], scale, top)
    return scale, 0.0, 0.0


@kernel
def _as_beside(x, unit, low, high, top, q):
    """The same with the limits of the step of the block beside it, which a lattice per row or 64 weights shares."""
    if low > 0.0:
        low, high = _multiples(x, unit, low, high, top, q)
    if low > 0.0 and _tells(x, unit, low):
        return _scale_for(x, unit, q, 0.5 * (low + high)), low, high
    return _0, 0.0, 0.0


def refine_scale(top: int, block_nbytes: int, pack: PackBlock) -> Refine:
    """Build what stores blocks on a lattice anew, as multiples of a scale from ``-top`` to ``top``.

    ``pack`` is given codes from 0 to ``2 * top``.  With 8 bits the weights of a block can be multiples of more than one
    step; those of its row tell which, where they have the same: forth, and for the first ones back.
    """
    most = np.float32(top)

    @inlined
    def put(out, block, scale, q):
        for e in range(BLOCK):
            q[e] += most
        pack(out, block * block_nbytes, scale, _0, load(q, 0), load(q, WIDTH))

    @kernel
    def refine(rows, packed):
        flat, out = flattened(rows), flattened(packed)
        x, unit = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        q, n = np.empty(BLOCK, np.float32), rows.shape[1] // BLOCK
        lows, highs = np.zeros(n + 1, np.float64), np.zeros(n + 1, np.float64)
        for r in range(rows.shape[0]):
            low = high = 0.0
            for i in range(n):
                load_block(flat, (r * n + i) * BLOCK, x, unit)
                scale, low, high = _as_beside(x, unit, low, high, most, q)
                if scale == _0:
                    scale, low, high = _alone(x, unit, most, q)
                lows[i], highs[i] = low, high
                if scale > _0:
                    put(out, r * n + i, scale, q)
            for i in range(n - 2, -1, -1):
                if lows[i + 1] == 0.0:
                    continue
                load_block(flat, (r * n + i) * BLOCK, x, unit)
                scale, low, high = _as_beside(x, unit, lows[i + 1], highs[i + 1], most, q)
                if scale > _0:
                    lows[i], highs[i] = low, high
                    put(out, r * n + i, scale, q)

    return refine
