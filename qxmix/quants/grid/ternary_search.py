"""The nearest points of the grid of IQ1_S, whose three levels are shifted up or down, for eight weights of each lane.

A weight that is shifted costs what it costs less the shift, so both shifts share the points.  With three levels the
halves of points are all that there are, 81 in front and 81 behind, and what they cost are sums of what pairs do.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.grid.halves import WIDE, add_least, find_least, workspace
from qxmix.quants.grid.ternary_grid import DELTA
from qxmix.quants.jit import inlined, kernel

GROUP = 8
N_HALVES = 81
_N_PAIRS = 9
_0 = np.float32(0.0)


@inlined
def left_of(y, size):
    """The least of ``abs(y)``, ``abs(y - size)`` and ``abs(y + size)``, squared."""
    a = abs(y)
    a = min(abs(a - size), a)
    return a * a


@inlined
def scratch():
    """For ``work`` of the kernels here: of halves in front, of those behind, of pairs, ones, of points of zeros."""
    ones = np.ones(LANES, np.float32)
    return workspace(N_HALVES), workspace(N_HALVES), workspace(4 * _N_PAIRS), ones, np.empty(LANES, np.float32)


@inlined
def _at_levels(x, w, step, half):
    """What a weight costs at level -1 and at 1 more than at 0, and there."""
    y, by = x - half, step * w
    return by * (step + (y + y)), by * (step - (y + y)), (y * y) * w


@kernel
def _price_pairs(x, w, step, half, g, pairs, price):
    """Costs (36, WIDE) of the pairs of levels of weights ``x`` (8, LANES) above those of 0, which ``price`` gets."""
    for at in range(0, WIDE, WIDTH):
        s, h, total = load(step, g + at), load(half, g + at), splat(_0)
        for p in range(GROUP // 2):
            to, e = _N_PAIRS * p * WIDE + at, 2 * p
            a, b, here = _at_levels(load(x, e * LANES + g + at), w[e], s, h)
            c, d, there = _at_levels(load(x, (e + 1) * LANES + g + at), w[e + 1], s, h)
            total = (total + here) + there
            store(pairs, to, a + c)
            store(pairs, to + WIDE, a)
            store(pairs, to + 2 * WIDE, a + d)
            store(pairs, to + 3 * WIDE, c)
            store(pairs, to + 4 * WIDE, splat(_0))
            store(pairs, to + 5 * WIDE, d)
            store(pairs, to + 6 * WIDE, b + c)
            store(pairs, to + 7 * WIDE, b)
            store(pairs, to + 8 * WIDE, b + d)
        store(price, g + at, total)


@kernel
def _price_halves(pairs, of, prices):
    """Sums (81, WIDE) of pairs ``of ..`` and those behind them: what the halves of points cost."""
    for i in range(_N_PAIRS):
        for j in range(_N_PAIRS):
            at, to = (of + i) * WIDE, (_N_PAIRS * i + j) * WIDE
            with_ = (of + _N_PAIRS + j) * WIDE
            store(prices, to, load(pairs, at) + load(pairs, with_))
            store(prices, to + WIDTH, load(pairs, at + WIDTH) + load(pairs, with_ + WIDTH))


@kernel
def _price(x, w, step, half, g, work, price):
    """Costs of the halves of points for lanes ``g ..``, and ``price`` (LANES,) of level 0."""
    _price_pairs(x, w, step, half, g, work[2], price)
    _price_halves(work[2], 0, work[0])
    _price_halves(work[2], 2 * _N_PAIRS, work[1])


@kernel
def least_errors(x, w, step, half, halves, work, error):
    """Errors (LANES,) of the nearest points to ``x`` (8, LANES)."""
    for g in range(0, LANES, WIDE):
        _price(x, w, step, half, g, work, error)
        add_least(work[0], work[1], halves[0], halves[1], work[3], g, error)


@kernel
def find_points(x, w, step, half, halves, work, at):
    """Numbers ``at`` (LANES,) of the nearest points to ``x`` (8, LANES)."""
    for g in range(0, LANES, WIDE):
        _price(x, w, step, half, g, work, work[4])
        find_least(work[0], work[1], halves[0], halves[1], halves[2], g, at)


@kernel
def set_shift(x, w, step, half):
    """Set ``half``, step times shift, (LANES,) to the shift with which three levels are nearer to ``x`` (8, LANES)."""
    for g in range(0, LANES, WIDTH):
        by = load(step, g)
        size, shift, up, down = abs(by), by * DELTA, splat(_0), splat(_0)
        for e in range(GROUP):
            a = load(x, e * LANES + g)
            up, down = up + left_of(a - shift, size) * w[e], down + left_of(a + shift, size) * w[e]
        store(half, g, where(down < up, -shift, shift))
