"""The search for the nearest code vector of each group.

A query is a group and a trial scale; it falls into a cluster and wants the first code vector of that cluster's list
with the least ``sum(w * (q - v) ** 2)``, v being the group over the scale.  Lists are in the order in which the
reference decides ties, so the first minimum is the reference's.  Queries of a cluster are answered one after the other,
so that its list stays in the cache, and each in two passes:

* the first one bounds.  The values that a list has at each of the n places of a vector are cut into 16 slots; a table
  tells what the nearest value of a slot adds to the sum, in units of about a fiftieth of what is usual, rounded down
  to a byte.  With AVX2 one instruction looks up 32 bytes and one adds them, so that a code vector costs half an
  instruction, a quarter in groups of 4, and no sum of bytes is above that of the vector.
* the second one evaluates as the reference does, in the order of the list, what can be as near as the vector with the
  least sum of bytes: 5 to 11 of 1000 to 2000.

The unit only decides how much is left for the second pass.  It follows what was found for the queries before; where
no sum is below 255 it is made larger, and where that does not help every vector is evaluated.  Parts of a sum are never
negative and each rounds as its bound does, so the bound needs a margin for the roundings of the additions alone, 7 half
units in the last place; it has 64.  The second pass first takes sums up to twice the least one and 8; for one query of
five, of three in groups of 4, the distance found is above that, and it goes on to where sums are above the distance.

Measured on student-t weights beside vectors of float32 in place of bytes, 16 groups that went through a list together,
with all trials of a group that fell into the same cluster: IQ1_KT 2.0, IQ2_KT 3.0, IQ3_KT 2.5, IQ4_KT 1.6 times as fast
on AVX2.  What a query reads of its group and of its list is copied to lie together: with reads from where the caller
has it, waiting for memory took a third of the time.  The second pass lists what is left without a jump that depends on
it; with one for each part of a list, and the vector of the least sum evaluated before all others, everything took 1.2
to 1.4 times as long.  Nothing was gained by units of a third less, or by sums up to 16 above twice the least one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.reinterpret import bits_of, float_of
from qxmix.quants.common.simd_bytes import ENTRIES, PLACES, put_scaled, sum_looked_up
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.trellis.queries import classifier, order_of, shift_of
from qxmix.quants.trellis.scan import chooser, tabulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.trellis.codebook import Codebook

TOGETHER = 64
"""Queries whose groups are copied side by side."""
TRIES = 6
"""Units that are tried for a query."""

_ALL, _NONE = 255, -1
_FULL, _MIDDLE, _HALF = np.float32(255.0), np.float32(128.0), np.float32(0.5)
_MARGIN = np.float32(1.0 + 2.0**-18)
_TINY = np.float32(1e-30)  # far above where products of float32 underflow and lose their relative precision
_USUAL = np.float32(100.0)  # of the first query; squares of the values of code vectors
_MOST = np.float32(2.0**20)  # of what is usual
_ROOM = np.float32(5.0)  # how many times the usual distance is 255 units
_LIGHT = np.float32(2.0**-10)  # what weighs less than this part of a group's largest counts as much for the usual one
_0, _1, _4 = np.float32(0.0), np.float32(1.0), np.float32(4.0)
_SIXTEENTH = np.float32(1 / 16)
_INF = np.float32(np.inf)


def _measurer(n: int) -> Callable[..., None]:
    """Build the kernel ``measure`` for groups of ``n`` weights."""
    shift = np.uint32(n.bit_length() - 1)

    @kernel
    def measure(w, means):
        """About the geometric mean of what the errors of each group weigh, to ``means`` (n_groups,).

        The distance that is usual for a group is in proportion to it.
        """
        for g in range(len(means)):
            largest = _0
            for k in range(n):
                largest = max(largest, w[g * n + k])
            total = np.uint32(0)
            for k in range(n):
                total += bits_of(max(w[g * n + k], largest * _LIGHT)) >> shift  # bits are nearly a logarithm
            means[g] = float_of(total)

    return measure


def _answerer(n: int) -> Callable[..., tuple[int, np.float32]]:
    """Build ``answer`` for groups of ``n`` weights."""
    tabulate, first_nearest = tabulator(n), chooser(n)

    @inlined
    def answer(v, w, at, units, near, n_chunks, of, start, low, high, slots, tables, sums, masks):
        """The place of the nearest code vector in the list, and its distance.

        The list has the vectors ``near``, in the slots of ``of`` from ``start`` on; 255 over ``units`` is what its
        distance should be below.
        """
        which, best, limit = 0, _INF, _NONE
        for tried in range(TRIES):
            if tried == TRIES - 1:
                limit = _ALL
            if limit == _NONE:
                tabulate(v, w, at, units, low, high, slots, tables)
                lowest = sum_looked_up(tables, of, start, n_chunks, n, sums)
                if lowest == _ALL:
                    units *= _SIXTEENTH
                    continue
                limit = min(2 * lowest + 8, _ALL - 1)
            which, best = first_nearest(v, w, at, near, sums, n_chunks, limit, masks)
            bound = best * units * _MARGIN
            if bound < np.float32(limit + 1):
                break
            limit = int(bound) if bound < _FULL else _NONE
            units = _MIDDLE / best if limit == _NONE else units
        return which, best

    return answer


def _matcher(n: int) -> Callable[..., None]:
    """Build the kernel ``match`` for groups of ``n`` weights."""
    classify, measure, answer = classifier(n), _measurer(n), _answerer(n)

    @kernel
    def match(x, w, inverse, edges, first, members, candidates, of, low, high, longest, found):
        """The index of each query to ``found`` (n_groups, n_trials); see ``nearest``.  ``longest`` list, in chunks."""
        n_trials, n_clusters, n_groups = inverse.shape[1], len(first) - 1, len(found)
        key, means = np.empty((n_trials, n_groups), np.int32), np.empty(n_groups, np.float32)
        begins, order = np.empty(n_clusters + 1, np.int64), np.empty((n_groups * n_trials, 2), np.int32)
        classify(x, inverse, edges, key)
        order_of(key, begins, order)
        measure(w, means)
        tables, sums = np.empty(n * ENTRIES, np.uint8), np.empty(longest * PLACES, np.uint8)
        masks = np.empty((longest + 1, 2), np.int64)
        near, places = np.empty(longest * PLACES * n, np.int8), np.empty(TOGETHER, np.int64)
        vs, ws = np.empty(TOGETHER * n, np.float32), np.empty(TOGETHER * n, np.float32)
        units, distances = np.empty(TOGETHER, np.float32), np.empty(TOGETHER, np.float32)
        shift, usual = shift_of(n_groups, inverse.shape[0]), _USUAL
        for c in range(n_clusters):
            start, n_chunks, slots = first[c] * PLACES, first[c + 1] - first[c], c * n * ENTRIES
            if begins[c] < begins[c + 1]:
                for i in range(n_chunks * PLACES * n):
                    near[i] = candidates[start * n + i]
            for at in range(begins[c], begins[c + 1], TOGETHER):
                size = min(TOGETHER, begins[c + 1] - at)
                for i in range(size):
                    g = np.uint32(order[at + i, 0])
                    put_scaled(vs, i * n, inverse[g >> shift, order[at + i, 1]], x, g * n, n)
                    put_scaled(ws, i * n, _1, w, g * n, n)
                    units[i] = _FULL / max(_TINY, _ROOM * usual * means[g])
                for i in range(size):
                    places[i], distances[i] = answer(
                        vs, ws, i * n, units[i], near, n_chunks, of, start * n, low, high, slots, tables, sums, masks
                    )
                total = _0
                for i in range(size):
                    ratio = distances[i] * units[i] * (_ROOM / _FULL)
                    total += ratio if ratio < _4 else _4
                    found[order[at + i, 0], order[at + i, 1]] = members[start + places[i]]
                usual = min(max(_1, usual * (_HALF + _HALF * (total / np.float32(size)))), _MOST)

    return match


_match8 = _matcher(8)
_match4 = _matcher(4)


def nearest(
    book: Codebook, x: NDArray[np.float32], w: NDArray[np.float32], inverse: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Indices (n_groups, n_trials) of the code vectors nearest to each group at each trial scale.

    Args:
        book: the codebook, of vectors of n values.
        x: (n_groups * n,) weights.
        w: (n_groups * n,) what an error of each of them weighs.
        inverse: (n_blocks, n_trials) one over the scales of the blocks, 0 where index 0 shall do; 1, 2, 4, .. groups
            make a block.

    """
    n = book.values.shape[1]
    found = np.zeros((len(x) // n, inverse.shape[1]), np.int32)
    longest = int(np.diff(book.first).max())
    match = _match8 if n == 8 else _match4  # noqa: PLR2004 - the two kinds of groups
    lists, slots = (book.first, book.members, book.candidates), (book.slots.of, book.slots.low, book.slots.high)
    match(x, w, inverse, book.edges, *lists, *slots, longest, found)
    return found
