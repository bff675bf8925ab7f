"""Grids of the I-quants, and the neighbours of the points that are not on them.

A grid type stores groups of 8 (or 4) weights as the index of one of a few hundred points.  A *code* is a group's
levels packed into one integer, level of weight i in bits ``bits * i``; most codes are not on the grid, and for each of
those the reference keeps the list of all grid points within the ``n_wanted`` smallest distinct distances, nearest
first, equal distances by grid index.  The points come from the ``gguf`` package, in the engines' order.

Built with array operations, once per process and type: 20 to 110 ms, of which the import of gguf is the most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

LIST_STEP = 16
"""Lists are padded to a multiple of this by repeating their last entry, so that SIMD needs no remainder loop."""

_FAR = np.uint8(255)


@dataclass(frozen=True, slots=True)
class Grid:
    """One type's grid as flat arrays."""

    index: NDArray[np.int32]
    """(n_codes,) index of the point with this code, or ``-1 - k`` where list ``k`` has its neighbours."""
    offsets: NDArray[np.int32]
    """(n_lists + 1,) where each list begins in ``neighbours``."""
    neighbours: NDArray[np.uint16]
    """Codes of the neighbours, list after list."""


def _distances(levels: NDArray[np.int32], wanted: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(n_wanted, n_points) squared distances in levels, at most 196."""
    a, b = wanted.astype(np.float32), levels.astype(np.float32)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None]
    distance: NDArray[np.uint8] = (squares - 2 * (a @ b.T)).astype(np.uint8)
    return distance


def _neighbour_lists(distance: NDArray[np.uint8], n_wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of the lists (n_lists,) and their grid indices, one after the other, nearest first."""
    limit = distance.min(axis=1)
    for _ in range(n_wanted - 1):
        limit = np.where(distance > limit[:, None], distance, _FAR).min(axis=1)
    which, point = np.nonzero(distance <= limit[:, None])
    order = np.argsort(which * 256 + distance[which, point], kind="stable")
    return np.bincount(which, minlength=len(distance)), point[order]


def _pad(lengths: NDArray[np.int64], entries: NDArray[np.uint16]) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Offsets and entries of the lists with each padded to a multiple of ``LIST_STEP``."""
    padded = -(-lengths // LIST_STEP) * LIST_STEP
    offsets = np.concatenate([[0], np.cumsum(padded)])
    first = np.cumsum(lengths) - lengths
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], padded)
    taken = np.repeat(first, padded) + np.minimum(within, np.repeat(lengths - 1, padded))
    return offsets.astype(np.int32), entries[taken]


@cache
def grid_points(name: str) -> NDArray[np.float32]:
    """(n_points, n) the grid of type ``name`` as a decoder reads it, before scale and signs."""
    from gguf import quants  # noqa: PLC0415 - 0.1 s, and only these types need it

    source = getattr(quants, name)
    source.init_grid()
    return np.ascontiguousarray(source.grid.reshape(source.grid.shape[-2:]), dtype=np.float32)


@cache
def load_grid(name: str, n_wanted: int) -> Grid:
    """The tables of type ``name``; ``n_wanted`` distinct distances are kept for the codes off the grid."""
    values = grid_points(name)
    steps = np.unique(values)
    bits = 3 if len(steps) > 4 else 2  # noqa: PLR2004 - 2 bits hold 4 levels
    shifts = bits * np.arange(values.shape[1], dtype=np.int32)
    levels = np.searchsorted(steps, values).astype(np.int32)
    codes = (levels << shifts).sum(axis=1).astype(np.int32)
    index = np.full(1 << (bits * values.shape[1]), -1, dtype=np.int32)
    index[codes] = np.arange(len(codes), dtype=np.int32)
    every = np.arange(len(index), dtype=np.int32)
    spread = (every[:, None] >> shifts) & ((1 << bits) - 1)
    off = every[(index < 0) & (spread < len(steps)).all(axis=1)]
    index[off] = -1 - np.arange(len(off), dtype=np.int32)
    lengths, points = _neighbour_lists(_distances(levels, spread[off]), n_wanted)
    offsets, neighbours = _pad(lengths, codes.astype(np.uint16)[points])
    return Grid(index, offsets, neighbours)
