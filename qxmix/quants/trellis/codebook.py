"""The codebooks of the trellis types, and the lists in which the encoder looks for a code vector.

A group of 8 (or 4) weights is stored as the start of a pseudo-random walk: each step multiplies a 32-bit state, and
the sum of its bytes, masked to 6 bits each, is a value from -126 to 126, nearly Gaussian.  A decoder walks; an encoder
has to find the start whose values come nearest, out of up to 65536.  The reference cuts the space of groups into
clusters, by the signs of the weights or by five bins of each, lists the code vectors near each cluster's mean, and
looks through the list of the cluster a group falls into.  The lists decide which vector is found, so they are built
here exactly as there, once per process and type, on the first encoding: 0.1 to 0.5 s.

Source: ``QuantizerIQKT`` of ik_llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd_bytes import ENTRIES, PLACES
from qxmix.quants.jit import inlined, kernel

FACTOR = np.uint32(0xCBAC1FED)
SIX_BITS = np.uint32(0x3F3F3F3F)
OFFSET = 4096
"""State of index 0 before its first step."""
BINS = np.array([-48, -16, 16, 48], dtype=np.float32)
"""Edges of the five bins of a weight in groups of 4; a weight on an edge is in the upper bin."""
LIST_STEP = 8
"""Lists are padded to a multiple of this with the nearest code vectors that are not in them."""

_FAR = np.float32(np.inf)


@dataclass(frozen=True, slots=True)
class Slots:
    """The values that a list has at each place of a vector, cut into ENTRIES slots with about as many in each."""

    of: NDArray[np.uint8]
    """(n_chunks * n * PLACES,) the slot of each value, chunk after chunk, (n, PLACES) in each."""
    low: NDArray[np.float32]
    """(n_clusters, n, ENTRIES) the least value of each slot."""
    high: NDArray[np.float32]
    """The same shape: the greatest."""


@dataclass(frozen=True, slots=True)
class Codebook:
    """One type's code vectors and their lists, as flat arrays."""

    values: NDArray[np.float32]
    """(n_values, n) the code vectors, integers."""
    edges: NDArray[np.float32]
    """Groups of 8: (8,) the value above which the bit of a weight is set in the number of a cluster; of 4: ``BINS``."""
    first: NDArray[np.int64]
    """(n_clusters + 1,) where the list of each cluster begins, in chunks of ``PLACES``."""
    members: NDArray[np.int32]
    """(n_chunks * PLACES,) indices of code vectors, in the order in which equal distances are decided.

    The last one of a list is repeated up to a whole chunk.
    """
    candidates: NDArray[np.int8]
    """(n_chunks * PLACES * n,) the code vectors of ``members``."""
    slots: Slots
    """In which parts of their range the values of the candidates are."""


@inlined
def next_state(state):
    """One step of the walk."""
    return np.uint32(state * FACTOR)


@inlined
def value_of(state):
    """The value of a state, an integer as a float32."""
    # The bytes add up in the highest one; their sum, at most 252, leaves nothing to carry.
    bytes_sum = np.uint32(np.uint32(state & SIX_BITS) * np.uint32(0x01010101)) >> np.uint32(24)
    return np.float32(np.int32(bytes_sum) - np.int32(126))


def code_vectors(n_values: int, n: int, offset: int, *, magnitudes: bool) -> NDArray[np.float32]:
    """(n_values, n) the vectors of indices 0 .. n_values."""
    state = np.arange(n_values, dtype=np.uint32) + np.uint32(offset)
    out = np.empty((n_values, n), dtype=np.float32)
    for k in range(n):
        state *= FACTOR
        out[:, k] = (state & SIX_BITS).view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int32) - 126
    return np.abs(out) if magnitudes else out


@kernel
def _nearest_clusters(values, means, near, extra):
    """For each vector the clusters with the nearest means; for each cluster the nearest of the other vectors.

    ``values`` is (n, n_values), ``near`` (n_near, n_values), ``extra`` (n_clusters, LIST_STEP - 1) int32.  Of equal
    distances the lower index comes first.
    """
    n, n_values = values.shape
    n_clusters, n_extra = extra.shape
    distance = np.empty((n_clusters, LANES), np.float32)
    best, which = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    far = np.empty((n_clusters, n_extra + 1), np.float32)
    for c in range(n_clusters):
        for j in range(n_extra + 1):
            far[c, j] = _FAR
    for at in range(0, n_values, LANES):
        for c in range(n_clusters):
            for i in range(LANES):
                distance[c, i] = np.float32(0.0)
            for k in range(n):
                mean = means[c, k]
                for i in range(LANES):
                    d = values[k, at + i] - mean
                    distance[c, i] += d * d
        for j in range(near.shape[0]):
            for i in range(LANES):
                best[i] = _FAR
                which[i] = np.float32(0.0)
            for c in range(n_clusters):
                number = np.float32(c)
                for i in range(LANES):
                    better = distance[c, i] < best[i]
                    best[i] = distance[c, i] if better else best[i]
                    which[i] = number if better else which[i]
            for i in range(LANES):
                near[j, at + i] = np.int32(which[i])
                distance[np.int32(which[i]), i] = _FAR
        for c in range(n_clusters):
            hit = False
            for i in range(LANES):
                hit |= distance[c, i] < far[c, n_extra - 1]
            if not hit:
                continue
            for i in range(LANES):
                d = distance[c, i]
                if d < far[c, n_extra - 1]:
                    j = n_extra - 1
                    while j > 0 and d < far[c, j - 1]:
                        far[c, j] = far[c, j - 1]
                        extra[c, j] = extra[c, j - 1]
                        j -= 1
                    far[c, j] = d
                    extra[c, j] = at + i


def _clusters(values: NDArray[np.float32], *, magnitudes: bool) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Edges, the cluster of each vector, and how many clusters there are."""
    n = values.shape[1]
    if n == 4:  # noqa: PLR2004 - the two kinds of groups
        return BINS, (values[:, :, None] >= BINS).sum(axis=2) @ (5 ** np.arange(n)), 5**n
    middle = np.median(values, axis=0) if magnitudes else np.float32(0.5) * (values.min(axis=0) + values.max(axis=0))
    return middle, (values > middle) @ (2 ** np.arange(n)), 2**n


def _slots(candidates: NDArray[np.int8], first: NDArray[np.int64]) -> Slots:
    """Cut the values of the lists of ``candidates`` (n_places, n)."""
    n, n_clusters = candidates.shape[1], len(first) - 1
    rows = np.repeat(np.arange(n_clusters) * n, np.diff(first) * PLACES)[:, None] + np.arange(n)
    at = rows * 256 + (candidates.astype(np.int64) + 128)
    counts = np.bincount(at.ravel(), minlength=n_clusters * n * 256).reshape(-1, 256)
    middle = counts.cumsum(axis=1) - counts // 2 - 1
    slot = np.clip(middle * ENTRIES // np.maximum(counts.sum(axis=1, keepdims=True), 1), 0, ENTRIES - 1)
    low, high = np.zeros((2, len(counts), ENTRIES), np.float32)
    for i in range(ENTRIES):
        mine = (slot == i) & (counts > 0)
        low[:, i], high[:, i] = mine.argmax(axis=1) - 128, 127 - mine[:, ::-1].argmax(axis=1)
    of = slot.astype(np.uint8).ravel()[at].reshape(-1, PLACES, n).transpose(0, 2, 1)
    return Slots(np.ascontiguousarray(of).ravel(), low.reshape(-1, n, ENTRIES), high.reshape(-1, n, ENTRIES))


def _build(n_values: int, n: int, n_near: int, offset: int, *, magnitudes: bool) -> Codebook:
    values = code_vectors(n_values, n, offset, magnitudes=magnitudes)
    edges, cluster, n_clusters = _clusters(values, magnitudes=magnitudes)
    counts = np.bincount(cluster, minlength=n_clusters)
    # Sums of a few hundred integers are exact; a cluster without vectors (IQ4_KT has one) has its mean at zero.
    sums = np.stack([np.bincount(cluster, values[:, k], n_clusters) for k in range(n)], axis=1).astype(np.float32)
    means = sums / np.maximum(counts, 1).astype(np.float32)[:, None]
    near = np.empty((n_near, n_values), np.int32)
    extra = np.zeros((n_clusters, LIST_STEP - 1), np.int32)
    _nearest_clusters(np.ascontiguousarray(values.T), means, near, extra)
    joined = near.T.ravel()
    lists = np.split(np.argsort(joined, kind="stable") // n_near, np.cumsum(np.bincount(joined, minlength=n_clusters)))
    # The reference keeps a minimum for each position modulo 8 and compares these in the order of its registers.
    order = np.arange(LIST_STEP) if n == LIST_STEP else np.array([0, 2, 4, 6, 1, 3, 5, 7])
    padded = []
    for c, listed in enumerate(lists[:n_clusters]):
        full = np.concatenate([listed, extra[c, : -len(listed) % LIST_STEP]]).reshape(-1, LIST_STEP)
        members = full[:, order].T.ravel()
        padded.append(np.pad(members, (0, -len(members) % PLACES), mode="edge").astype(np.int32))
    first = np.cumsum([0, *(len(members) // PLACES for members in padded)])
    flat = np.concatenate(padded)
    candidates = values.astype(np.int8)[flat]
    return Codebook(values, edges, first, flat, candidates.ravel(), _slots(candidates, first))


_lock = Lock()
_build_once = cache(_build)


def codebook(n_values: int, n: int, n_near: int, *, offset: int = OFFSET, magnitudes: bool = False) -> Codebook:
    """The codebook of vectors of ``n`` values, in which each vector is listed by its ``n_near`` nearest clusters.

    Built once in a process, by whichever thread comes first.
    """
    with _lock:
        return _build_once(n_values, n, n_near, offset, magnitudes=magnitudes)
