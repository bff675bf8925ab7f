"""Where each bit of a field stands, in rows one by one and in interleaved ones: layouts as arrays of positions.

A position counts bits from the start of a block (or of a unit of interleaved blocks), the low bit of byte 0 first.
Fields of plain blocks have the shape (n, width), n values of ``width`` bits; those of interleaved units have the axis
of the row in front, (n_rows, n, width).  Two fields with the same content pair up value by value, whatever their order
in memory.  In docstrings, k is the row, e the weight, ``at`` a byte.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.int64]
"""Positions of bits; the last axis runs over the bits of a value, low bit first."""

Starts = tuple[tuple[int, ...], ...]
"""Of 32 weights, the first weight of each run of four: (byte group, field of the byte)."""

NIBBLES: Starts = ((0, 8), (16, 24), (4, 12), (20, 28))
"""The order of most 4-bit fields."""
NIBBLES_IN_ORDER: Starts = ((0, 4), (8, 12), (16, 20), (24, 28))
PAIRS: Starts = ((0, 4, 8, 12), (16, 20, 24, 28))
"""The order of most 2-bit fields."""
SINGLES: Starts = ((0, 4, 8, 12, 16, 20, 24, 28),)
"""The order of most 1-bit fields."""


def _values(first: Bits, width: int) -> Bits:
    return first[..., None] + np.arange(width)


def span(at: int, n_bytes: int) -> Bits:
    """Whole bytes."""
    return _values(8 * (at + np.arange(n_bytes)), 8)


def strided(at: int, index: Bits, n_bytes: int, width: int) -> Bits:
    """Value ``i`` of ``index`` in byte ``i % n_bytes``, at bit ``width * (i / n_bytes)``."""
    return _values(8 * (at + index % n_bytes) + width * (index // n_bytes), width)


def nibbles_16(at: int, n: int) -> Bits:
    """4 bits: byte ``16 b + t`` holds weight ``32 b + t`` in the low, ``32 b + 16 + t`` in the high nibble."""
    e = np.arange(n)
    return _values(8 * (at + 16 * (e // 32) + e % 16) + 4 * (e % 32 // 16), 4)


def nibbles_32(at: int) -> Bits:
    """4 bits, field F64 of ``superblock``."""
    e = np.arange(256)
    return _values(8 * (at + 32 * (e // 64) + e % 32) + 4 * (e % 64 // 32), 4)


def pairs_128(at: int) -> Bits:
    """2 bits, field T128 of ``superblock``."""
    e = np.arange(256)
    return _values(8 * (at + 32 * (e // 128) + e % 32) + 2 * (e % 128 // 32), 2)


def planes_32(at: int) -> Bits:
    """1 bit, field BP of ``superblock``."""
    e = np.arange(256)
    return _values(8 * (at + e % 32) + e // 32, 1)


def runs(at: int, n_rows: int, n_bytes: int, run: int) -> Bits:
    """Bytes: ``run`` bytes of each row in turn, then the next ``run`` bytes of each."""
    k, i = np.arange(n_rows)[:, None], np.arange(n_bytes)
    return _values(8 * (at + run * n_rows * (i // run) + run * k + i % run), 8)


def quads(at: int, n_rows: int, n: int, width: int, starts: Starts) -> Bits:
    """``width`` bits per weight; byte ``4 n_rows g + 4 k + i`` of 32 weights holds weights ``starts[g][...] + i``."""
    size = 4 * n_rows * len(starts)
    place = np.empty(32, np.int64)
    for group, firsts in enumerate(starts):
        for field, first in enumerate(firsts):
            for i in range(4):
                place[first + i] = 8 * (4 * n_rows * group + i) + width * field
    k, e = np.arange(n_rows)[:, None], np.arange(n)
    return _values(8 * (at + size * (e // 32) + 4 * k) + place[e % 32], width)


def counted(n_rows: int, n_blocks: int, *, halves: bool = False) -> Bits:
    """(n_rows, n_blocks) the numbers of the blocks' scales: by block, then row; of ``halves`` first one, then other."""
    k, j = np.arange(n_rows)[:, None], np.arange(n_blocks)
    return 2 * n_rows * (j // 2) + n_rows * (j % 2) + k if halves else n_rows * j + k
