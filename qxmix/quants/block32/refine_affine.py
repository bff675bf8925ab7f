"""The scale and the minimum of a block of 32 weights that are whole steps above it: Q4_1 and Q5_1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.refine import BLOCK, HALF_UNIT, LARGEST_HALF, half_near, load_block
from qxmix.quants.common.numerics import half_bits, half_value
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import WIDTH, load
from qxmix.quants.jit import kernel

if TYPE_CHECKING:
    from qxmix.quants.block32.refine import Refine
    from qxmix.quants.contracts import PackBlock

CLOSE = np.float32(0.65)
"""Distance up to which all weights are near in units of their own: half a unit is their rounding as stored."""
FAR = np.float32(2.0)
"""Distance from which on nothing is gained, in units that are no less than the rounding of the minimum."""
_BY_CHANCE = 2e-9
"""Chance from which on a number of steps says nothing; where half the line is near a step it is 2e-10."""
_ROUNDED = 2.0**-40
"""Share of a step by which float64 may miss a multiple of it."""
_N_ROUNDS = 12
"""Steps to the best minimum for a scale; six are the most that were seen."""
_N_SCALES = 24
"""Halves on either side of the scale of least squares that are tried."""
_LEAST_HALF = np.float32(2.0**-24)
_0 = np.float32(0.0)


@kernel
def _codes_above(x, unit, top, q):
    """Codes ``q`` from 0 to ``top`` at the most that put the weights of a block at equal steps above the least one.

    As few steps as possible; whether there are any.  Where steps are no longer than what rounding leaves open of the
    weights, being near a multiple says nothing.
    """
    low = high = 0
    for e in range(BLOCK):
        low = e if x[e] < x[low] else low
        high = e if x[e] > x[high] else high
    least, span = np.float64(x[low]), np.float64(x[high]) - np.float64(x[low])
    for e in range(BLOCK):
        q[e] = _0
    if span == 0.0:
        return True
    for k in range(1, top + 1):
        step, fits, chance = span / k, True, 1.0
        for e in range(BLOCK):
            v = np.float64(x[e]) - least
            n = np.rint(v / step)
            open_ = unit[e] + unit[low] * (1.0 - n / k) + unit[high] * (n / k)
            if abs(v - n * step) > HALF_UNIT * open_ + _ROUNDED * step:
                fits = False
                break
            chance *= min(1.0, open_ / step)
            q[e] = np.float32(n)
        if fits and chance < _BY_CHANCE:
            return True
    return False


@kernel
def _least_squares(x, q):
    """Scale and minimum, in float64."""
    n, sq, sqq, sx, sxq = float(BLOCK), 0.0, 0.0, 0.0, 0.0
    for e in range(BLOCK):
        code, value = np.float64(q[e]), np.float64(x[e])
        sq, sqq, sx, sxq = sq + code, sqq + code * code, sx + value, sxq + code * value
    span = n * sqq - sq * sq
    scale = (n * sxq - sq * sx) / span if span > 0.0 else 0.0
    return scale, (sx - scale * sq) / n


@kernel
def _middle(x, unit, q, scale, limit):
    """The minimum with the least largest distance for these codes and this scale, and that distance, in float64.

    The two weights that are farthest below and above at one distance give the next one; it only grows, and once it is
    ``limit`` nothing more is asked.
    """
    far = 0.0
    for _ in range(_N_ROUNDS):
        low, high, i, j = -np.inf, np.inf, 0, 0
        for e in range(BLOCK):
            at, room = np.float64(x[e]) - np.float64(scale) * np.float64(q[e]), far * np.float64(unit[e])
            if at - room > low:
                low, i = at - room, e
            if at + room < high:
                high, j = at + room, e
        if not low > high:
            break
        far += (low - high) / (np.float64(unit[i]) + np.float64(unit[j]))
        if far >= limit:
            break
    return 0.5 * (low + high), far


@kernel
def _pair(x, unit, q, first):
    """Halves for scale and minimum with the least largest distance, and that; scales around the half ``first``.

    The distance with the best of all minima is a convex function of the scale: where it is no less than what was found
    nearer to the first, it is no less beyond, either.
    """
    least, best, beside = np.float32(np.inf), _0, _0
    above = below = True
    for i in range(2 * _N_SCALES + 1 if first else 1):
        bits = half_near(first, i)
        if not (above if i % 2 else below) or not 0 <= bits <= LARGEST_HALF:
            continue
        scale = half_value(np.uint16(bits))
        middle, far = _middle(x, unit, q, scale, least)
        if not far < least:
            above, below = above and i % 2 == 0, below and i % 2 == 1
            continue
        around = int(half_bits(np.float32(middle)))
        for near in range(around - 1, around + 2):
            if near & 0x7FFF > LARGEST_HALF or near < 0:
                continue
            minimum, most = half_value(np.uint16(near)), _0
            for e in range(BLOCK):
                most = max(most, abs((scale * q[e] + minimum) - x[e]) / unit[e])
                if not most < least:
                    break
            if most < least:
                least, best, beside = most, scale, minimum
    return best, beside, least


@kernel
def _nearest_pair(x, unit, q):
    """Halves for scale and minimum that decode nearest, and how far: within half a unit where they can be.

    A minimum is a half, which rounds it by more than a small weight's own rounding; so where no pair leaves all weights
    within ``CLOSE``, units are no less than the minimum's.
    """
    slope, offset = _least_squares(x, q)
    first = int(half_bits(np.float32(slope)))
    scale, minimum, far = _pair(x, unit, q, first)
    if far > CLOSE:
        floor = max(np.float32(abs(offset)) * np.float32(2.0**-10), _LEAST_HALF)
        for e in range(BLOCK):
            unit[e] = max(unit[e], floor)
        scale, minimum, far = _pair(x, unit, q, first)
    return scale, minimum, far


def refine_affine(top: int, block_nbytes: int, pack: PackBlock) -> Refine:
    """Build what stores blocks on a lattice anew, as codes from 0 to ``top`` times a scale above a minimum."""

    @kernel
    def refine(rows, packed):
        flat, out = flattened(rows), flattened(packed)
        x, unit = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        q = np.empty(BLOCK, np.float32)
        for block in range(rows.size // BLOCK):
            load_block(flat, block * BLOCK, x, unit)
            if not _codes_above(x, unit, top, q):
                continue
            scale, minimum, far = _nearest_pair(x, unit, q)
            if far < FAR:
                pack(out, block * block_nbytes, scale, minimum, load(q, 0), load(q, WIDTH))

    return refine
