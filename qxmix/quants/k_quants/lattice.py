"""Super-blocks that sit on a lattice which their scales can tell: Q3_K and Q6_K, for the exhaustive search.

A block of 16 weights has a whole number ``c`` for its scale, times a half ``d`` of the super-block.  So a lattice is
kept where the steps of all blocks are whole multiples of one: with one step for 256 weights or a row always, with more
of them now and then.  The product of a half and a whole number comes nearer to a step than a half alone.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.refine import BLOCK as LINE
from qxmix.quants.block32.refine import half_near, load_block
from qxmix.quants.block32.refine_scale import NEAR, step_alone
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_bits, half_value, nint
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.k_quants.linear_k import BLOCK, N_BLOCKS

_N_BESIDE = 5
"""Halves on either side of that of least squares that are tried: four are the rounding of bfloat16."""
_ALIKE = 2.0**-7
"""Share by which the ratio of two steps may be off: each is told by weights rounded to 2^-9, maybe by one alone."""
_MOST_TIMES = 4
"""Times the largest scale that the step of a block of one value is looked for."""
_CLOSE = np.float32(0.5)
"""The rounding of a weight as stored."""
_LARGEST_HALF = 0x7BFF
_0 = np.float32(0.0)


@inlined
def _divisor(q):
    """The largest whole number that divides all ``q``."""
    found = 0
    for e in range(len(q)):
        a, b = found, abs(int(q[e]))
        while b > 0:
            a, b = b, a % b
        found = a
    return found


@kernel
def _step_of(x, unit, nmax, q):
    """The step of a block, and its levels ``q`` (16,) from ``-nmax`` to ``nmax - 1``, as few as explain it.

    The step is negative where a level is ``nmax`` otherwise; 0 for zeros; NaN where there is none.
    """
    scale, above, below, some = step_alone(x, unit, np.float32(nmax)), False, False, False
    for e in range(BLOCK):
        some |= x[e] != _0
        q[e] = nint(x[e] / scale) if scale > _0 else _0
    if scale == _0:
        return np.nan if some else 0.0
    divisor, sxq, sqq = np.float32(_divisor(q)), 0.0, 0.0
    for e in range(BLOCK):
        q[e] = q[e] / divisor
        above |= q[e] >= nmax
        below |= q[e] <= -nmax
    if above and below:
        return np.nan
    for e in range(BLOCK):
        q[e] = -q[e] if above else q[e]
        sxq, sqq = sxq + np.float64(x[e]) * q[e], sqq + np.float64(q[e]) * q[e]
    return sxq / sqq


@kernel
def _farthest(x, unit, q, levels, d, limit):
    """Largest distance of a decoded weight in units; ends beyond ``limit``."""
    most = _0
    for j in range(N_BLOCKS):
        step = d * levels[j]
        for e in range(BLOCK * j, BLOCK * (j + 1)):
            most = max(most, abs(step * q[e] - x[e]) / unit[e])
        if not most < limit:
            break
    return most


@kernel
def _half_for(x, unit, q, levels, limit):
    """The half near that of least squares with the least largest distance below ``limit``, and that; 0 if none."""
    sxq, sqq = 0.0, 0.0
    for e in range(SUPER):
        level = np.float64(levels[e // BLOCK]) * np.float64(q[e])
        sxq, sqq = sxq + np.float64(x[e]) * level, sqq + level * level
    middle, least, best = int(half_bits(np.float32(sxq / sqq))), limit, _0
    for i in range(2 * _N_BESIDE + 1):
        bits = half_near(middle, i)
        if 0 < bits <= _LARGEST_HALF:
            far = _farthest(x, unit, q, levels, half_value(np.uint16(bits)), least)
            if far < least:
                least, best = far, half_value(np.uint16(bits))
    return best, least


@inlined
def _as_multiples(steps, unit, levels):
    """Write whole numbers that times ``unit`` are about the steps; whether there are such."""
    for j in range(N_BLOCKS):
        part = steps[j] / unit
        level = np.rint(part)
        if abs(part - level) > _ALIKE * abs(level) or (level == 0.0 and steps[j] != 0.0):
            return False
        levels[j] = np.float32(level)
    return True


@inlined
def _within(levels, q, nmax, most, own):
    """Bring scales below ``most`` where levels ``own`` of a block can be some times ``q`` instead; the largest scale.

    Blocks of one value have it as their step, which may be many times that of the others.
    """
    largest = 0
    for j in range(N_BLOCKS):
        level, low, high, times = abs(int(levels[j])), _0, _0, 1
        for e in range(BLOCK * j, BLOCK * (j + 1)):
            low, high = min(low, q[e]), max(high, q[e])
        for more in range(2, nmax + 1 if level >= most else 2):
            if level % more == 0 and level // more < most and low * more >= -nmax and high * more < nmax:
                times = more
                break
        levels[j] /= np.float32(times)
        largest = max(largest, level // times)
        for e in range(BLOCK * j, BLOCK * (j + 1)):
            own[e] = q[e] * np.float32(times)
    return largest


@kernel
def _common(x, unit, q, steps, nmax, most, levels):
    """The half of which all steps are multiples, below ``most`` and written as ``levels``; 0 if there is none.

    First the fewest that their ratios allow, which rounded weights tell well; then these times 2, 3 and so on, with
    halves that are as many times smaller, until one is as near as any can be.
    """
    largest, least, best, own = 0.0, NEAR, _0, np.empty(SUPER, np.float32)
    first, tried = np.empty(N_BLOCKS, np.float32), np.empty(N_BLOCKS, np.float32)
    for j in range(N_BLOCKS):
        largest = max(largest, abs(steps[j]))
    for m in range(1, _MOST_TIMES * most if largest > 0.0 else 1):
        if not _as_multiples(steps, largest / m, first):
            continue
        n = _within(first, q, nmax, most, own)
        for times in range(1, (most - 1) // n + 1):
            for j in range(N_BLOCKS):
                tried[j] = first[j] * np.float32(times)
            half, far = _half_for(x, unit, own, tried, least)
            if half > _0:
                least, best = far, half
                for j in range(N_BLOCKS):
                    levels[j] = tried[j]
            if least <= _CLOSE:
                break
        if best > _0:
            break
    return best


@kernel
def find_lattices(x, nmax, most, told, levels):
    """Halves ``told`` (LANES,), 0 for super-blocks on no such lattice, and for the others the blocks' ``levels``.

    Element by element, here and above: numba's assignment to a slice can raise, and no kernel that can is kept.
    """
    lane, unit, q = np.empty(SUPER, np.float32), np.empty(SUPER, np.float32), np.empty(SUPER, np.float32)
    line, beside, steps = np.zeros(LINE, np.float32), np.empty(LINE, np.float32), np.empty(N_BLOCKS, np.float64)
    own = np.empty(N_BLOCKS, np.float32)
    for k in range(LANES):
        told[k] = _0
        for j in range(N_BLOCKS):
            part = slice(BLOCK * j, BLOCK * (j + 1))
            for e in range(BLOCK):
                lane[BLOCK * j + e] = x[BLOCK * j + e, k]
                line[e] = lane[BLOCK * j + e]
            load_block(line, 0, line, beside)
            for e in range(BLOCK):
                unit[BLOCK * j + e] = beside[e]
            steps[j] = _step_of(line, beside, nmax, q[part])
            if not abs(steps[j]) < np.inf:
                break
        if abs(steps[j]) < np.inf:
            told[k] = _common(lane, unit, q, steps, nmax, most, own)
            for j in range(N_BLOCKS if told[k] > _0 else 0):
                levels[j, k] = own[j]


@spliced
def keep_lattices(x, nmax, most, d, levels, amax):
    """Put the scales of super-blocks on a lattice, ``d`` (LANES,) and ``levels`` (16, LANES), in the place of others.

    ``nmax`` is that of the weights' levels, ``most`` that of the scales'; ``amax`` becomes 1 there.
    """
    told = np.empty(LANES, np.float32)
    find_lattices(x, nmax, most, told, levels)
    for k in range(LANES):
        d[k] = told[k] if told[k] > _0 else d[k]
        amax[k] = np.float32(1.0) if told[k] > _0 else amax[k]


@spliced
def leave_lattices(_x, _nmax, _most, _d, _levels, _amax):
    """What other searches do: nothing."""
