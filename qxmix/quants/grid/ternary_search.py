"""The nearest points of the grid of IQ1_S, whose three levels are shifted up or down, for eight weights of each lane.

A weight that is shifted costs what it costs less the shift, so both shifts share the points.  With three levels the
halves of points are all that there are, 81 in front and 81 behind, and what they cost are sums of what pairs do.

Of the second halves that stand behind a first one the cheapest is wanted, 25 of 81 on average; many of them stand
together behind other first halves, too.  So the cheaper of two that often do is found once and counts as one more: 90
such pairs, some of them of pairs, leave 826 of 2,048 numbers to be compared.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.grid.grids import grid_points
from qxmix.quants.grid.halves import WIDE, add_least, find_halves, halves_of, point_of, workspace
from qxmix.quants.grid.ternary_grid import DELTA
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Shared = NDArray[np.float32]

GROUP = 8
N_HALVES = 81
_N_PAIRS = 9
_LEAST_SHARED = 4
"""First halves behind which two must stand together to count as one more: with 3 as fast, and longer to find."""
_ENOUGH = 0.6
"""Pairs that are shared this many times as often as that which is most are joined in the same round."""
_0 = np.float32(0.0)


class Points(NamedTuple):
    """The grid points of IQ1_S by their halves, and the second halves in fewer terms."""

    starts: NDArray[np.uint32]
    """(82,) of ``Halves``, like the two that follow."""
    behind: NDArray[np.uint32]
    """(2048,) the second half of each point, times ``WIDE``."""
    numbers: NDArray[np.int32]
    """(2048,) their numbers in the grid."""
    joined: NDArray[np.uint32]
    """(n_joined, 2) the terms, times ``WIDE``, of which term 81 + i is the lesser."""
    term_starts: NDArray[np.uint32]
    """(82,) where the terms behind each first half begin."""
    terms: NDArray[np.uint32]
    """Terms, times ``WIDE``."""


def _join(behind: Shared) -> tuple[Shared, list[tuple[int, int]]]:
    """Terms (n_heads, n_terms) in place of ``behind`` (n_heads, n_tails), both 0 and 1, and what they are made of."""
    made: list[tuple[int, int]] = []
    while True:
        together = np.triu(behind.T @ behind, 1)
        most, n, used, new = together.max(), together.shape[1], set[int](), []
        if most < _LEAST_SHARED:
            return behind, made
        for i, j in (divmod(int(o), n) for o in np.argsort(-together, axis=None, kind="stable")[: 4 * n]):
            if together[i, j] < max(_LEAST_SHARED, _ENOUGH * most):
                break
            if not used & {i, j}:
                used |= {i, j}
                both = behind[:, i] * behind[:, j]
                behind[:, i] -= both
                behind[:, j] -= both
                new.append(both)
                made.append((i, j))
        behind = np.concatenate([behind, np.array(new).T], axis=1)


@cache
def ternary_points() -> Points:
    """The tables of the grid; 60 ms, once per process."""
    _, tails, starts, behind, numbers = halves_of(grid_points("IQ1_S"))
    heads = np.repeat(np.arange(N_HALVES), np.diff(starts))
    stand = np.zeros((N_HALVES, len(tails)), np.float32)
    stand[heads, behind // WIDE] = 1
    stand, made = _join(stand)
    head, term = np.nonzero(stand)
    term_starts = np.searchsorted(head, np.arange(N_HALVES + 1)).astype(np.uint32)
    joined = WIDE * np.array(made, np.uint32)
    return Points(starts, behind, numbers, joined, term_starts, (WIDE * term).astype(np.uint32))


@inlined
def left_of(y, size):
    """The least of ``abs(y)``, ``abs(y - size)`` and ``abs(y + size)``, squared."""
    a = abs(y)
    a = min(abs(a - size), a)
    return a * a


@inlined
def scratch(joined):
    """For ``work`` of the kernels here: of halves in front, of terms, pairs, what is found, ones, points of zeros."""
    ones, terms = np.ones(LANES, np.float32), workspace(N_HALVES + len(joined))
    return workspace(N_HALVES), terms, workspace(4 * _N_PAIRS), workspace(2), ones, np.empty(LANES, np.float32)


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
def _price_joined(joined, prices):
    """Set the prices of terms that are the lesser of two, behind those of the halves."""
    for i in range(joined.shape[0]):
        a, b, to = joined[i, 0], joined[i, 1], (N_HALVES + i) * WIDE
        store(prices, to, min(load(prices, a), load(prices, b)))
        store(prices, to + WIDTH, min(load(prices, a + WIDTH), load(prices, b + WIDTH)))


@kernel
def _price(x, w, step, half, g, joined, work, price):
    """Costs of the halves of points and of terms for lanes ``g ..``, and ``price`` (LANES,) of level 0."""
    _price_pairs(x, w, step, half, g, work[2], price)
    _price_halves(work[2], 0, work[0])
    _price_halves(work[2], 2 * _N_PAIRS, work[1])
    _price_joined(joined, work[1])


@kernel
def least_errors(x, w, step, half, tables, work, error):
    """Errors (LANES,) of the nearest points to ``x`` (8, LANES); ``tables`` are ``Points``."""
    for g in range(0, LANES, WIDE):
        _price(x, w, step, half, g, tables[3], work, error)
        add_least(work[0], work[1], tables[4], tables[5], work[4], g, error)


@kernel
def find_points(x, w, step, half, tables, work, at):
    """Numbers ``at`` (LANES,) of the nearest points to ``x`` (8, LANES); else ``least_errors``."""
    for g in range(0, LANES, WIDE):
        _price(x, w, step, half, g, tables[3], work, work[5])
        find_halves(work[0], work[1], tables[4], tables[5], work[3])
        point_of(work[3], work[1], tables[0], tables[1], tables[2], g, at)


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
