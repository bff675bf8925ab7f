"""The nearest of hundreds of grid points, found by their halves, of which there are few.

A point of eight weights has four in front and four behind, each with one of three values: of the 1,024 points of IQ2_S
there are 80 first halves and 81 second ones.  What a point costs is what its halves cost together.  So the halves are
priced, and of those that stand behind one first half the cheapest is a minimum over numbers that are there already:
two instructions of AVX2 for each point and 16 rows, where summing four products took sixteen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDE = 2 * WIDTH
"""Rows at a time: four registers of AVX2, for which the number of each half is read once."""
_INF = np.float32(np.inf)
_0 = np.float32(0.0)


class Halves(NamedTuple):
    """Grid points in the order of their halves: by the first, and with the same first by the second."""

    heads: NDArray[np.float32]
    """(n_heads, n / 2) the first halves."""
    tails: NDArray[np.float32]
    """(n_tails, n / 2) the second ones."""
    starts: NDArray[np.uint32]
    """(n_heads + 1,) where the points of each first half begin."""
    behind: NDArray[np.uint32]
    """(n_points,) the second half of each point, times ``WIDE``."""
    points: NDArray[np.int32]
    """(n_points,) their numbers in the grid."""


def halves_of(points: NDArray[np.float32]) -> Halves:
    """The halves of ``points`` (n_points, n)."""
    n = points.shape[1] // 2
    heads, head = np.unique(points[:, :n], axis=0, return_inverse=True)
    tails, tail = np.unique(points[:, n:], axis=0, return_inverse=True)
    head, tail = head.ravel(), tail.ravel()
    order = np.lexsort((tail, head))
    starts = np.searchsorted(head[order], np.arange(len(heads) + 1))
    heads, tails = np.ascontiguousarray(heads), np.ascontiguousarray(tails)
    return Halves(
        heads, tails, starts.astype(np.uint32), (WIDE * tail[order]).astype(np.uint32), order.astype(np.int32)
    )


@inlined
def workspace(n_halves):
    """For ``work`` of the kernels here."""
    return np.empty((n_halves, WIDE), np.float32)


@kernel
def _half_norms(w, values, norms):
    """Sums (n_halves,) of ``w`` (n / 2,) times the squares of ``values`` (n_halves, n / 2)."""
    for h in range(values.shape[0]):
        total = _0
        for e in range(values.shape[1]):
            total += w[e] * (values[h, e] * values[h, e])
        norms[h] = total


@kernel
def set_norms(w, halves, norms):
    """``half_norms`` of both halves of ``w`` (n,)."""
    n = len(w) // 2
    _half_norms(w[:n], halves[0], norms[0])
    _half_norms(w[n:], halves[1], norms[1])


@kernel
def _double_sums(u, first, g, values, sums):
    """Twice the products of ``u`` (n / 2 from ``first``, LANES) with each half, into ``sums`` (n_halves, WIDE)."""
    n = values.shape[1]
    for h in range(values.shape[0]):
        a = b = splat(_0)
        for e in range(n):
            at = (first + e) * LANES + g
            a, b = a + load(u, at) * values[h, e], b + load(u, at + WIDTH) * values[h, e]
        store(sums, h * WIDE, a + a)
        store(sums, h * WIDE + WIDTH, b + b)


@kernel
def _prices(step, g, norms, sums, prices):
    """What each half costs at ``step``: with the other half's, times the step, how the error differs from that of 0."""
    a, b = load(step, g), load(step, g + WIDTH)
    for h in range(norms.shape[0]):
        store(prices, h * WIDE, a * norms[h] - load(sums, h * WIDE))
        store(prices, h * WIDE + WIDTH, b * norms[h] - load(sums, h * WIDE + WIDTH))


@kernel
def add_least(head_prices, tail_prices, starts, behind, step, g, total):
    """Add to lanes ``g ..`` of ``total`` the least price of a point times the step."""
    least, least_b = splat(_INF), splat(_INF)
    for h in range(head_prices.shape[0]):
        a, b = splat(_INF), splat(_INF)
        for i in range(starts[np.uint32(h)], starts[np.uint32(h + 1)]):
            at = behind[np.uint32(i)]
            a, b = min(load(tail_prices, at), a), min(load(tail_prices, at + WIDTH), b)
        least = min(least, load(head_prices, h * WIDE) + a)
        least_b = min(least_b, load(head_prices, h * WIDE + WIDTH) + b)
    store(total, g, load(total, g) + load(step, g) * least)
    store(total, g + WIDTH, load(total, g + WIDTH) + load(step, g + WIDTH) * least_b)


@inlined
def _better(price, tail, h, least, behind, head):
    """The lesser of two prices, with it that of its second half, and its first half."""
    better = price < least
    return where(better, price, least), where(better, tail, behind), where(better, splat(h), head)


@kernel
def find_halves(head_prices, tail_prices, starts, behind, found):
    """Set ``found`` (2, WIDE) to the first half with the least price, of equals the first, and the other's price."""
    least, tail, head = splat(_INF), splat(_INF), splat(_0)
    least_b, tail_b, head_b = splat(_INF), splat(_INF), splat(_0)
    for h in range(head_prices.shape[0]):
        a, b = splat(_INF), splat(_INF)
        for i in range(starts[np.uint32(h)], starts[np.uint32(h + 1)]):
            of = behind[np.uint32(i)]
            a, b = min(load(tail_prices, of), a), min(load(tail_prices, of + WIDTH), b)
        number = np.float32(h)
        least, tail, head = _better(load(head_prices, h * WIDE) + a, a, number, least, tail, head)
        least_b, tail_b, head_b = _better(load(head_prices, h * WIDE + WIDTH) + b, b, number, least_b, tail_b, head_b)
    store(found, 0, head)
    store(found, WIDTH, head_b)
    store(found, WIDE, tail)
    store(found, WIDE + WIDTH, tail_b)


@kernel
def point_of(found, tail_prices, starts, behind, points, g, at):
    """Lanes ``g ..`` of ``at`` (LANES,) int32: the grid point of what ``find_halves`` found, of equals the first."""
    for k in range(WIDE):
        half = np.int32(found[0, k])
        place = starts[np.uint32(half)]
        for j in range(starts[np.uint32(half)], starts[np.uint32(half + 1)]):
            place = np.uint32(j)
            if tail_prices[behind[place] // WIDE, k] == found[1, k]:
                break
        at[g + k] = points[place]


@kernel
def add_least_errors(u, first, steps, norms, halves, work, total):
    """Add to ``total`` (n_trials, LANES) by how much the nearest points' errors differ from those of zeros.

    Args:
        u: (n_columns, LANES) float32 what errors count for times weight.
        first: The first of the columns that are looked at.
        steps: (n_trials, LANES) what points are multiplied with.
        norms: (heads', tails') as ``set_norms`` sets them for the columns.
        halves: ``Halves``.
        work: (sums of heads, of tails, prices of heads, of tails), of ``workspace``.
        total: Added to.

    """
    for g in range(0, LANES, WIDE):
        _double_sums(u, first, g, halves[0], work[0])
        _double_sums(u, first + halves[0].shape[1], g, halves[1], work[1])
        for t in range(steps.shape[0]):
            _prices(steps[t], g, norms[0], work[0], work[2])
            _prices(steps[t], g, norms[1], work[1], work[3])
            add_least(work[2], work[3], halves[2], halves[3], steps[t], g, total[t])


@kernel
def find_nearest(u, first, step, norms, halves, work, at):
    """Numbers ``at`` (LANES,) int32 of the points that are nearest at ``step`` (LANES,); else ``add_least_errors``."""
    for g in range(0, LANES, WIDE):
        _double_sums(u, first, g, halves[0], work[0])
        _double_sums(u, first + halves[0].shape[1], g, halves[1], work[1])
        _prices(step, g, norms[0], work[0], work[2])
        _prices(step, g, norms[1], work[1], work[3])
        find_halves(work[2], work[3], halves[2], halves[3], work[4])
        point_of(work[4], work[3], halves[2], halves[3], halves[4], g, at)
