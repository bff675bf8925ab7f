"""In which order the queries of the trellis search are answered: those of one cluster after each other.

A query is a group of weights at a trial scale; see ``trellis.search``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.trellis.codebook import BINS

BLOCK = 32
"""Weights that share a scale."""
NONE = np.int32(-1)
TILE = 256
"""Groups whose clusters are found together."""

_0 = np.float32(0.0)


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
def shift_of(n_groups, n_blocks):
    """How far the number of a group is shifted to be that of its block; one block has 1, 2, 4, .. groups."""
    shift = np.uint32(0)
    while n_blocks << shift < n_groups:
        shift += np.uint32(1)
    return shift


def classifier(n: int) -> Callable[..., None]:
    """Build the kernel ``classify`` for groups of ``n`` weights."""
    cluster_of = _cluster8 if n == 8 else _cluster4  # noqa: PLR2004 - the two kinds of groups

    @kernel
    def classify(x, inverse, edges, key):
        """The cluster of each query, ``key`` (n_trials, n_groups); NONE for a scale of 0, which asks for nothing."""
        n_trials, n_groups = key.shape
        shift = shift_of(n_groups, inverse.shape[0])
        groups, scale, cluster = np.empty((n, TILE), np.float32), np.zeros(TILE, np.float32), np.empty(TILE, np.int32)
        for at in range(0, n_groups, TILE):
            size = min(TILE, n_groups - at)
            for i in range(size):
                for k in range(n):
                    groups[k, i] = x[(at + i) * n + k]
            for t in range(n_trials):
                for i in range(size):
                    scale[i] = inverse[np.uint32(at + i) >> shift, t]
                cluster_of(groups, scale, edges, cluster)
                for i in range(size):
                    key[t, at + i] = cluster[i] if scale[i] != _0 else NONE

    return classify


@kernel
def order_of(key, begins, order):
    """Groups and trials of the queries to ``order`` (n_queries, 2), cluster after cluster, group after group.

    ``begins`` (n_clusters + 1,) is where those of each cluster begin, and all end.
    """
    n_trials, n_groups = key.shape
    next_of = np.zeros(len(begins), np.int64)
    for t in range(n_trials):
        for g in range(n_groups):
            if key[t, g] != NONE:
                next_of[key[t, g] + 1] += 1
    begins[0] = 0
    for c in range(1, len(begins)):
        next_of[c] += next_of[c - 1]
        begins[c] = next_of[c]
    for g in range(n_groups):
        for t in range(n_trials):
            c = key[t, g]
            if c != NONE:
                order[next_of[c], 0] = g
                order[next_of[c], 1] = t
                next_of[c] += 1
