"""Which queries of the trellis search go through a list together: those of one cluster, most alike first.

A query is a group of weights at a trial scale; see ``trellis.search``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qxmix.quants.common.simd import WIDTH, lowest_bit
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.trellis.codebook import BINS

BLOCK = 32
"""Weights that share a scale."""
NONE = np.int32(-1)
TILE = 256
"""Groups whose clusters are found together."""

_0 = np.float32(0.0)
_2 = np.float32(2.0)


@inlined
def _cluster8(groups, scale, edges, cluster):
    for i in range(TILE):
        cluster[i] = 0
    for k in range(8):
        for i in range(TILE):
            cluster[i] |= np.int32(1 << k) if scale[i] * groups[k, i] > edges[k] else np.int32(0)


@inlined
def _cluster4(groups, scale, edges, cluster):
    for i in range(TILE):
        cluster[i] = 0
    place = np.int32(1)
    for k in range(4):
        for edge in range(len(BINS)):
            for i in range(TILE):
                cluster[i] += place if scale[i] * groups[k, i] >= edges[edge] else np.int32(0)
        place *= np.int32(5)


@inlined
def _shift_of(n_groups, n_blocks):
    """How far the number of a group is shifted to be that of its block; one block has 1, 2, 4, .. groups."""
    shift = np.uint32(0)
    while n_blocks << shift < n_groups:
        shift += np.uint32(1)
    return shift


def classifier(n: int) -> Callable[..., None]:
    """Build the kernel ``classify`` for groups of ``n`` weights."""
    cluster_of = _cluster8 if n == 8 else _cluster4  # noqa: PLR2004 - the two kinds of groups

    @kernel
    def classify(x, inverse, edges, key, trials):
        """Which trials of a group fall into the same cluster.

        For the first one of those, ``key`` (n_trials, n_groups) is ``cluster * n_trials`` plus how many others there
        are, and the bits of ``trials`` are all of them; for others ``key`` is -1.
        """
        n_trials, n_groups = key.shape
        shift = _shift_of(n_groups, inverse.shape[0])
        groups, scale, count = np.empty((n, TILE), np.float32), np.zeros(TILE, np.float32), np.empty(TILE, np.int32)
        cluster, lead = np.empty((n_trials, TILE), np.int32), np.empty((n_trials, TILE), np.int32)
        for at in range(0, n_groups, TILE):
            size = min(TILE, n_groups - at)
            for i in range(size):
                for k in range(n):
                    groups[k, i] = x[(at + i) * n + k]
            for t in range(n_trials):
                for i in range(size):
                    scale[i] = inverse[np.uint32(at + i) >> shift, t]
                here, leader = cluster[t], lead[t]
                cluster_of(groups, scale, edges, here)
                for i in range(TILE):
                    # A scale of 0 asks for nothing: it is in no cluster, and leads nobody.
                    leader[i] = np.int32(t) if scale[i] != _0 else NONE
                for s in range(t - 1, -1, -1):
                    other = cluster[s]
                    for i in range(TILE):
                        leader[i] = np.int32(s) if (other[i] == here[i]) & (leader[i] != NONE) else leader[i]
            for t in range(n_trials):
                here, bits = key[t, at : at + size], trials[t, at : at + size]
                for i in range(size):
                    count[i] = NONE
                    bits[i] = 0
                for s in range(t, n_trials):
                    leader = lead[s]
                    for i in range(size):
                        count[i] += np.int32(1) if leader[i] == t else np.int32(0)
                        bits[i] |= np.int32(1 << s) if leader[i] == t else np.int32(0)
                for i in range(size):
                    here[i] = cluster[t, i] * np.int32(n_trials) + count[i] if count[i] >= 0 else NONE

    return classify


@kernel
def order_of(key, n_clusters):
    """Groups of each cluster and their first trials there, by how many they have there; where clusters begin."""
    n_trials, n_groups = key.shape
    start = np.zeros(n_clusters * n_trials + 1, np.int64)
    for t in range(n_trials):
        for g in range(n_groups):
            if key[t, g] != NONE:
                start[key[t, g] + 1] += 1
    for k in range(len(start) - 1):
        start[k + 1] += start[k]
    begins = start[::n_trials].copy()
    order = np.empty((start[-1], 2), np.int32)
    for t in range(n_trials):
        for g in range(n_groups):
            k = key[t, g]
            if k != NONE:
                order[start[k], 0] = g
                order[start[k], 1] = t
                start[k] += 1
    return order, begins


def gatherer(n: int) -> Callable[..., int]:
    """Build the kernel ``gather`` for groups of ``n`` weights."""

    @kernel
    def gather(x, w, inverse, trials, order, groups, scale, ratio, trial, together):
        """Lay the groups of ``order`` side by side, lanes beyond repeat the first; returns the most trials of one.

        ``groups`` (3, n, WIDTH) are weights, what their errors weigh, and u; trials that a group has less than the
        others repeat its first.
        """
        most, shift = 0, _shift_of(trials.shape[1], inverse.shape[0])
        for i in range(WIDTH):
            query = i if i < len(order) else 0
            g, first, j = np.uint32(order[query, 0]), np.uint32(order[query, 1]), 0
            scales, bits = inverse[g >> shift], np.int64(trials[first, g])
            s = scales[first]
            for k in range(n):
                at = g * np.uint32(n) + np.uint32(k)
                groups[0, k, i] = x[at]
                groups[1, k, i] = w[at]
                groups[2, k, i] = w[at] * (s * x[at])
            while bits:
                t = lowest_bit(bits)
                bits &= bits - 1
                trial[j, i] = t
                scale[j, i] = scales[t]
                ratio[j, i] = scales[t] / s * -_2
                j += 1
            together[i] = j
            most = max(most, j)
        for i in range(WIDTH):
            for t in range(together[i], most):
                scale[t, i] = scale[0, i]
                ratio[t, i] = ratio[0, i]
        return most

    return gather
