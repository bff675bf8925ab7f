"""The search for the nearest code vector of each group, with many groups side by side.

A query is a group and a trial scale; it falls into a cluster and wants the first code vector of that cluster's list
with the least ``sum(w * (q - v) ** 2)``, v being the group over the scale.  Lists are in the order in which the
reference decides ties, so the first minimum is the reference's.  Two passes find it:

* the first one bounds.  For v = r * y it takes ``A - 2 * r * B`` with A = sum(w * q * q), B = sum(w * y * q), which
  differs from the sum only by a constant of the query.  Lane k is a group: 16 groups of a cluster go through its list
  together, code vectors one after the other, so that no sum crosses lanes.  All trials of a group that fall into the
  same cluster share A and B, and cost two operations each for a code vector instead of 16 (or 8) more.  The minimum of
  every 16 code vectors is kept.
* the second one evaluates as the reference does, where that minimum is within a margin of the least of the list: for
  nearly all queries one chunk of 16, now with the code vectors in lanes.

With u half a unit in the last place, bounds err by less than 25 u and the reference's sum by less than 7 u times
``sum(w * (126 + |v|) ** 2)``; the margin is 128 u.

Measured on student-t weights, one thread, millions of weights per second: with bounds for one trial at a time IQ3_KT
1.6 instead of 2.3; with exact sums throughout, groups in lanes, IQ4_KT 1.0 instead of 1.5.  Three quarters of the time
are the multiplications of the first pass.  Not tried: boxes around parts of a list.  For single queries they leave
20 % of the parts of IQ2_KT, 13 % of IQ3_KT, 40 % of IQ1_KT and 14 % of IQ4_KT, for 16 queries together most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import (
    WIDTH,
    add_rough_product,
    lane_bits,
    least_lane,
    load,
    lowest_bit,
    splat,
    store,
    where,
)
from qxmix.quants.jit import kernel
from qxmix.quants.trellis.queries import classifier, gatherer, order_of
from qxmix.quants.trellis.scan import bound_one8, score4, score8, sums4, sums8

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.trellis.codebook import Codebook

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_INF = np.float32(np.inf)
_LARGEST = np.float32(126.0)
_MARGIN = np.float32(2.0**-17)
_TINY = np.float32(1e-36)  # far above where products of float32 underflow and lose their relative precision


def _bounder(n: int) -> Callable[..., None]:
    """Build the first pass for groups of ``n`` weights."""
    sums_of = sums8 if n == 8 else sums4  # noqa: PLR2004 - the two kinds of groups

    @kernel
    def bound(w, u, ratio, n_trials, n_chunks, q, squares, sums, least, overall):
        """The first pass: ``least`` (n_trials, n_chunks, WIDTH) and its minima ``overall`` (n_trials, WIDTH)."""
        if n == 8 and n_trials == 1:  # noqa: PLR2004 - lists for groups of 4 are short
            bound_one8(w, u, q, n_chunks, least, overall)
            return
        for t in range(n_trials):
            store(overall, t * WIDTH, splat(_INF))
        for chunk in range(n_chunks):
            sums_of(w, u, q, squares, chunk * n * WIDTH, sums)
            # Two trials at a time share the reads of the sums; the last one may be taken twice.
            for t in range(0, n_trials, 2):
                other = min(t + 1, n_trials - 1)
                r, lowest, r2, lowest2 = load(ratio, t * WIDTH), splat(_INF), load(ratio, other * WIDTH), splat(_INF)
                for j in range(WIDTH):
                    a, b = load(sums, j * WIDTH), load(sums, (WIDTH + j) * WIDTH)
                    lowest = min(lowest, add_rough_product(a, b, r))
                    lowest2 = min(lowest2, add_rough_product(a, b, r2))
                store(least, (t * n_chunks + chunk) * WIDTH, lowest)
                store(overall, t * WIDTH, min(load(overall, t * WIDTH), lowest))
                store(least, (other * n_chunks + chunk) * WIDTH, lowest2)
                store(overall, other * WIDTH, min(load(overall, other * WIDTH), lowest2))

    return bound


def _decider(n: int) -> Callable[..., None]:
    """Build the second pass for groups of ``n`` weights."""
    score_of = score8 if n == 8 else score4  # noqa: PLR2004 - the two kinds of groups

    @kernel
    def decide(w, v, lowest, least, at, n_chunks, q, limits, chunks, which):
        """The second pass for a trial: position of the nearest code vector of each lane, to ``which``."""
        reach = splat(_0)
        for k in range(n):
            far = abs(load(v, k * WIDTH)) + _LARGEST
            reach = reach + load(w, k * WIDTH) * (far * far)
        limit = load(lowest, 0) + (reach * _MARGIN + _TINY)
        count, last, number = splat(_0), splat(_0), splat(_0)
        for chunk in range(n_chunks):
            within = load(least, (at + chunk) * WIDTH) <= limit
            count = where(within, count + _1, count)
            last = where(within, number, last)
            number = number + _1
        store(limits, 0, limit)
        store(chunks, 0, last)
        store(chunks, WIDTH, count)
        for lane in range(WIDTH):
            # Nearly always one chunk; if there are more, all of them in their order.
            final = int(chunks[lane])
            chunk = final if chunks[WIDTH + lane] == _1 else 0
            best = _INF
            which[lane] = 0
            while chunk <= final:
                score = score_of(w, v, q, lane, chunk * n * WIDTH)
                found = least_lane(score)
                if found < best:
                    best = found
                    which[lane] = chunk * WIDTH + lowest_bit(lane_bits(score == splat(found)))
                chunk += 1
                while chunk < final and not least[(at + chunk) * WIDTH + lane] <= limits[lane]:
                    chunk += 1

    return decide


def _matcher(n: int) -> Callable[..., None]:
    """Build the kernel ``match`` for groups of ``n`` weights."""
    classify, gather, bound, decide = classifier(n), gatherer(n), _bounder(n), _decider(n)

    @kernel
    def match(x, w, inverse, edges, first, members, candidates, longest, found):
        """The index of each query to ``found`` (n_groups, n_trials); see ``nearest``.  ``longest`` list, in chunks."""
        n_trials, n_clusters, n_groups = inverse.shape[1], len(first) - 1, len(found)
        key, trials = np.empty((n_trials, n_groups), np.int32), np.empty((n_trials, n_groups), np.int32)
        classify(x, inverse, edges, key, trials)
        order, begins = order_of(key, n_clusters)
        q, squares = np.empty(longest * n * WIDTH, np.float32), np.empty(longest * n * WIDTH, np.float32)
        least = np.empty(n_trials * longest * WIDTH, np.float32)
        sums, overall = np.empty(2 * WIDTH * WIDTH, np.float32), np.empty((n_trials, WIDTH), np.float32)
        groups, v = np.empty((3, n, WIDTH), np.float32), np.empty((n, WIDTH), np.float32)
        xs, ws, u = groups[0], groups[1], groups[2]
        scale, ratio = np.empty((n_trials, WIDTH), np.float32), np.empty((n_trials, WIDTH), np.float32)
        trial, together = np.empty((n_trials, WIDTH), np.int32), np.empty(WIDTH, np.int64)
        limits, chunks, which = np.empty(WIDTH, np.float32), np.empty(2 * WIDTH, np.float32), np.empty(WIDTH, np.int64)
        for c in range(n_clusters):
            start, n_chunks = np.int64(first[c]), np.int64(first[c + 1] - first[c])
            if begins[c] < begins[c + 1]:
                listed = flattened(candidates[start : start + n_chunks])
                for i in range(len(listed)):
                    q[i] = np.float32(listed[i])
                    squares[i] = q[i] * q[i]
            for at in range(begins[c], begins[c + 1], WIDTH):
                queries = order[at : min(at + WIDTH, begins[c + 1])]
                n_together = gather(x, w, inverse, trials, queries, groups, scale, ratio, trial, together)
                bound(ws, u, ratio, n_together, n_chunks, q, squares, sums, least, overall)
                for t in range(n_together):
                    for k in range(n):
                        for i in range(WIDTH):
                            v[k, i] = scale[t, i] * xs[k, i]
                    decide(ws, v, overall[t], least, t * n_chunks, n_chunks, q, limits, chunks, which)
                    for i in range(len(queries)):
                        if t < together[i]:
                            found[queries[i, 0], trial[t, i]] = members[start + (which[i] >> 4), which[i] & 15]

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
    match(x, w, inverse, book.edges, book.first, book.members, book.candidates, longest, found)
    return found
