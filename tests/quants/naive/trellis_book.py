"""The codebooks of the trellis types and the search in their lists, slow and plain; see ``naive``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from tests.quants.naive.scalar import F

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Book:
    """Code vectors and the lists of their clusters."""

    n_values: int
    n: int
    n_near: int
    offset: int = 4096
    magnitudes: bool = False

    @cached_property
    def values(self) -> Array:
        state = np.arange(self.n_values, dtype=np.uint64) + np.uint64(self.offset)
        columns = []
        for _ in range(self.n):
            state = state * np.uint64(0xCBAC1FED) % np.uint64(1 << 32)
            sixes = [(state >> np.uint64(8 * i)) % np.uint64(64) for i in range(4)]
            columns.append(sum(s.astype(int) for s in sixes) - 126)
        values = np.stack(columns, axis=1).astype(np.float32)
        return np.abs(values) if self.magnitudes else values

    @cached_property
    def middle(self) -> Array:
        if self.magnitudes:
            return np.asarray(np.median(self.values, axis=0))
        return np.asarray((self.values.min(axis=0) + self.values.max(axis=0)) / F(2))

    def cluster(self, v: Array) -> Array:
        """Number of the cluster that each row of ``v`` falls into."""
        if self.n == 4:
            return np.asarray(np.digitize(v, [-48, -16, 16, 48]) @ np.array([1, 5, 25, 125]))
        return np.asarray((v > self.middle) @ (2 ** np.arange(8)))

    @cached_property
    def distances(self) -> Array:
        """(n_values, n_clusters) squared distance of each vector from the mean of each cluster."""
        numbers = self.cluster(self.values)
        means = np.zeros((625 if self.n == 4 else 256, self.n), np.float32)
        for c in np.unique(numbers):
            means[c] = self.values[numbers == c].sum(axis=0, dtype=np.float64) / (numbers == c).sum()
        out = np.empty((self.n_values, len(means)), np.float32)
        for at in range(0, self.n_values, 2048):
            part = self.values[at : at + 2048]
            total = np.zeros((len(part), len(means)), np.float32)
            for k in range(self.n):
                total += np.square(part[:, k : k + 1] - means[:, k])
            out[at : at + 2048] = total
        return out

    @cached_property
    def limits(self) -> Array:
        """(n_values,) the ``n_near``-th smallest of distance and cluster number of each vector, as one integer."""
        return np.concatenate([np.partition(k, self.n_near - 1, axis=1)[:, self.n_near - 1] for k in self.keys()])

    def keys(self) -> list[Array]:
        parts = np.split(self.distances, 32)
        return [part.view(np.int32).astype(np.int64) * 1024 + np.arange(part.shape[1]) for part in parts]

    @cache  # noqa: B019 - a book lives as long as the process
    def listed(self, c: int) -> Array:
        """Indices of the vectors in the list of cluster ``c``."""
        distance = self.distances[:, c]
        members = distance.view(np.int32).astype(np.int64) * 1024 + c <= self.limits
        others = np.flatnonzero(~members)
        others = others[np.argsort(distance[others], kind="stable")]
        inside = np.flatnonzero(members)
        return np.concatenate([inside, others[: -len(inside) % 8]])

    def match(self, d: np.float32, xs: Array, ws: Array) -> list[int]:
        """The code vector of each group of a block at scale ``d``."""
        if d == 0:
            return [0] * (32 // self.n)
        out = []
        v = (F(1) / d) * xs
        for at in range(0, 32, self.n):
            listed = self.listed(int(self.cluster(v[None, at : at + self.n])[0]))
            t = ws[at : at + self.n] * np.square(self.values[listed] - v[at : at + self.n])
            if self.n == 4:
                scores, order = (t[:, 0] + t[:, 2]) + (t[:, 1] + t[:, 3]), [0, 2, 4, 6, 1, 3, 5, 7]
            else:
                even, odd = (t[:, 0] + t[:, 4]) + (t[:, 2] + t[:, 6]), (t[:, 1] + t[:, 5]) + (t[:, 3] + t[:, 7])
                scores, order = even + odd, list(range(8))
            # A register of 8 keeps the first minimum of each position; then they are compared in this order.
            best = [int(np.argmin(scores[i::8])) * 8 + i for i in order]
            out.append(int(listed[min(best, key=lambda i: scores[i])]))
        return out


IQ1 = Book(8192, 8, 32)
IQ2 = Book(65536, 8, 8)
IQ3 = Book(65536, 8, 8, magnitudes=True)
IQ4_SETS = (Book(32768, 4, 6), Book(32768, 4, 6, 4096 + 32768))
