"""The search for the nearest code vector of each group, with many groups side by side.

A query is a group and a trial scale; it falls into a cluster and wants the first code vector of that cluster's list
with the least ``sum(w * (q - v) ** 2)``, v the group divided by the scale.  Lane k is a query: all queries of a cluster
go through its list together, code vectors one after the other, so that no sum crosses lanes and the list is read from
memory once for 16 queries.  Lists are in the order in which the reference decides ties: the first minimum is its own.

For groups of 8 a first pass bounds: ``sum(w * q * q - 2 * w * v * q)`` differs from the wanted sum only by a constant
of the query and takes two fused operations per weight instead of four.  It keeps the minimum of each 8 code vectors; a
second pass evaluates as the reference does, but only where that minimum is within a margin of the least.  With u half
a unit in the last place, the bound errs by less than 20 u and the reference's sum by less than 7 u times
``sum(w * (126 + |v|) ** 2)``; the margin is 128 u.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.simd import WIDTH, add_rough_product, any_lane, load, splat, store, where
from qxmix.quants.trellis import BINS, LIST_STEP

if TYPE_CHECKING:
    from collections.abc import Callable

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)
_INF = np.float32(np.inf)
_LARGEST = np.float32(126.0)
_MARGIN = np.float32(2.0**-17)
_TINY = np.float32(1e-36)  # far above where products of float32 underflow and lose their relative precision
NO_QUERY = -1


@inlined
def _error(w, candidates, at, v):
    """A weight's part of the sum."""
    d = splat(candidates[at]) - v
    return w * (d * d)


@kernel
def _scan8(query, candidates, first, last, least, found):
    """Position in ``candidates[first:last]`` of the nearest code vector of each lane.

    ``query`` (16, WIDTH) holds the groups over their scales, then their weights; ``least`` is scratch.
    """
    v0, v1, v2, v3 = load(query, 0), load(query, WIDTH), load(query, 2 * WIDTH), load(query, 3 * WIDTH)
    v4, v5, v6, v7 = load(query, 4 * WIDTH), load(query, 5 * WIDTH), load(query, 6 * WIDTH), load(query, 7 * WIDTH)
    w0, w1, w2, w3 = load(query, 8 * WIDTH), load(query, 9 * WIDTH), load(query, 10 * WIDTH), load(query, 11 * WIDTH)
    w4, w5, w6, w7 = load(query, 12 * WIDTH), load(query, 13 * WIDTH), load(query, 14 * WIDTH), load(query, 15 * WIDTH)
    b0, b1, b2, b3 = (v0 * w0) * -_2, (v1 * w1) * -_2, (v2 * w2) * -_2, (v3 * w3) * -_2
    b4, b5, b6, b7 = (v4 * w4) * -_2, (v5 * w5) * -_2, (v6 * w6) * -_2, (v7 * w7) * -_2
    overall = splat(_INF)
    n_steps = (last - first) // LIST_STEP
    for step in range(n_steps):
        lowest = splat(_INF)
        for j in range(LIST_STEP):
            at = (first + step * LIST_STEP + j) * 8
            q = splat(candidates[at])
            even = add_rough_product(b0, w0, q) * q
            q = splat(candidates[at + 1])
            odd = add_rough_product(b1, w1, q) * q
            q = splat(candidates[at + 2])
            even = add_rough_product(even, add_rough_product(b2, w2, q), q)
            q = splat(candidates[at + 3])
            odd = add_rough_product(odd, add_rough_product(b3, w3, q), q)
            q = splat(candidates[at + 4])
            even = add_rough_product(even, add_rough_product(b4, w4, q), q)
            q = splat(candidates[at + 5])
            odd = add_rough_product(odd, add_rough_product(b5, w5, q), q)
            q = splat(candidates[at + 6])
            even = add_rough_product(even, add_rough_product(b6, w6, q), q)
            q = splat(candidates[at + 7])
            odd = add_rough_product(odd, add_rough_product(b7, w7, q), q)
            lowest = min(lowest, even + odd)
        store(least, step * WIDTH, lowest)
        overall = min(overall, lowest)
    reach = splat(_0)
    for k in range(8):
        far = abs(load(query, k * WIDTH)) + _LARGEST
        reach = reach + load(query, (8 + k) * WIDTH) * (far * far)
    limit = overall + (reach * _MARGIN + _TINY)
    best, which = splat(_INF), splat(_0)
    for step in range(n_steps):
        if not any_lane(load(least, step * WIDTH) <= limit):
            continue
        for i in range(step * LIST_STEP, (step + 1) * LIST_STEP):
            at = (first + i) * 8
            left = (_error(w0, candidates, at, v0) + _error(w4, candidates, at + 4, v4)) + (
                _error(w2, candidates, at + 2, v2) + _error(w6, candidates, at + 6, v6)
            )
            right = (_error(w1, candidates, at + 1, v1) + _error(w5, candidates, at + 5, v5)) + (
                _error(w3, candidates, at + 3, v3) + _error(w7, candidates, at + 7, v7)
            )
            score = left + right
            better = score < best
            best, which = where(better, score, best), where(better, splat(np.float32(i)), which)
    store(found, 0, which)


@kernel
def _scan4(query, candidates, first, last, least, found):  # noqa: ARG001 - one signature for both
    """The same for groups of 4, whose lists are short: there is nothing to gain from bounds."""
    v0, v1, v2, v3 = load(query, 0), load(query, WIDTH), load(query, 2 * WIDTH), load(query, 3 * WIDTH)
    w0, w1, w2, w3 = load(query, 4 * WIDTH), load(query, 5 * WIDTH), load(query, 6 * WIDTH), load(query, 7 * WIDTH)
    best, which = splat(_INF), splat(_0)
    for i in range(last - first):
        at = (first + i) * 4
        score = (_error(w0, candidates, at, v0) + _error(w2, candidates, at + 2, v2)) + (
            _error(w1, candidates, at + 1, v1) + _error(w3, candidates, at + 3, v3)
        )
        better = score < best
        best, which = where(better, score, best), where(better, splat(np.float32(i)), which)
    store(found, 0, which)


@inlined
def _cluster8(x, at, inverse, edges):
    cluster = 0
    for k in range(8):
        cluster |= (1 << k) if inverse * x[at + k] > edges[k] else 0
    return cluster


@inlined
def _cluster4(x, at, inverse, edges):
    cluster, place = 0, 1
    for k in range(4):
        v = inverse * x[at + k]
        for edge in range(len(BINS)):
            cluster += place if v >= edges[edge] else 0
        place *= 5
    return cluster


def matcher(n: int) -> Callable[..., None]:
    """Build the kernel ``match`` for groups of ``n`` weights."""
    scan, cluster_of = (_scan8, _cluster8) if n == LIST_STEP else (_scan4, _cluster4)

    @kernel
    def match(x, w, inverse, groups_per_block, edges, first, members, candidates, found):
        """Index of the code vector of each trial and group.

        ``x`` and ``w`` (n_groups * n,) are weights and what an error of them weighs; ``inverse`` (n_trials, n_blocks)
        one over the scales, 0 for scale 0, which takes index 0; ``found`` (n_trials, n_groups) int32 is written.
        """
        n_trials, n_blocks = inverse.shape
        n_groups, n_clusters = n_blocks * groups_per_block, len(first) - 1
        start = np.zeros(n_clusters + 1, np.int64)
        longest = 0
        for c in range(n_clusters):
            longest = max(longest, first[c + 1] - first[c])
        for t in range(n_trials):
            for g in range(n_groups):
                id_ = inverse[t, g // groups_per_block]
                c = cluster_of(x, g * n, id_, edges) if id_ != _0 else NO_QUERY
                found[t, g] = c
                if c != NO_QUERY:
                    start[c + 1] += 1
        for c in range(n_clusters):
            start[c + 1] += start[c]
        order = np.empty(start[n_clusters], np.int64)
        for t in range(n_trials):
            for g in range(n_groups):
                c = found[t, g]
                if c == NO_QUERY:
                    found[t, g] = 0
                else:
                    order[start[c]] = t * n_groups + g
                    start[c] += 1
        query, least = np.zeros((2 * n, WIDTH), np.float32), np.empty(longest * WIDTH // LIST_STEP, np.float32)
        which, flat, flat_candidates = np.empty(WIDTH, np.float32), found.ravel(), candidates.ravel()
        at = 0
        for c in range(n_clusters):
            while at < start[c]:
                n_queries = min(WIDTH, start[c] - at)
                for i in range(n_queries):
                    t, g = order[at + i] // n_groups, order[at + i] % n_groups
                    for k in range(n):
                        query[k, i] = inverse[t, g // groups_per_block] * x[g * n + k]
                        query[n + k, i] = w[g * n + k]
                scan(query, flat_candidates, first[c], first[c + 1], least, which)
                for i in range(n_queries):
                    flat[order[at + i]] = members[first[c] + np.int32(which[i])]
                at += n_queries

    return match


match8 = matcher(8)
match4 = matcher(4)
