"""IQ4_KT: groups of 4 weights are 15-bit starts of a pseudo-random walk; blocks of 32 with a 7-bit scale.

Layout of a row: one float32 ``d``, then super-blocks of 256 weights, 128 bytes each::

    0                               32                         96                           128
    +-------------------------------+--------------------------+-----------------------------+
    | u32 j of block j: bit 0: the  | ql: byte 8 j + g: low 8  | qh: byte (8 j + g) % 32:    |
    | second set of starts;         | bits of the start of     | bits 8-11 of group g of     |
    | 1-7: scale + 64; from 8 + 3 g:| group g of block j       | block j, in the high nibble |
    | bits 12-14 of group g         |                          | for j >= 4                  |
    +-------------------------------+--------------------------+-----------------------------+
    weight = d * scale * step k of the walk

Source: ``block_iq4_kt`` and ``quantize_row_iq4_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.jit import kernel
from qxmix.quants.numerics import nint
from qxmix.quants.row_scale import load_float, store_float
from qxmix.quants.superblock import SUPER
from qxmix.quants.trellis import OFFSET, Codebook, codebook, next_state, value_of
from qxmix.quants.trellis_batch import BLOCKS_PER_SUPER, ZERO, Batch, batches, choose_best, first_scales, try_scales
from qxmix.quants.trellis_rows import first_largest, inverse_of, refit
from qxmix.quants.trellis_search import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Packed, Rows

NBYTES = 128
ROW_NBYTES = 4
QL, QH = 32, 96
"""Offsets of ql and qh."""
GROUPS = 8
"""Groups of a block."""
SECOND = 32768
"""How far the second set of starts is from the first."""
LEAST, MOST = 90.0, 124.0
OFFSETS = np.repeat(np.arange(-2, 3, dtype=np.float32) * np.float32(8.0), 2)
SIGNS = np.tile(np.array([1, -1], dtype=np.float32), 5)

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_TOP = np.float32(63.0)


@kernel
def _levels(scales, row_tops, d, levels):
    """Scale of each row, and the level of each block for it; the largest scale of a row is level -64."""
    for r in range(len(d)):
        d[r] = -first_largest(scales[r]) / np.float32(64.0) if row_tops[r] > _0 else _0
        inverse = _1 / d[r] if d[r] != _0 else _0
        for block in range(scales.shape[1]):
            levels[r, block] = min(nint(inverse * scales[r, block]), _TOP)  # all 0 only where there is no scale


@kernel
def _pack(d, levels, found, out):
    for r in range(len(d)):
        row = out[r]
        row[:] = 0
        store_float(row, 0, d[r])
        if not levels[r].any():
            continue
        for s in range(levels.shape[1] // BLOCKS_PER_SUPER):
            at, first = ROW_NBYTES + s * NBYTES, s * BLOCKS_PER_SUPER
            for j in range(BLOCKS_PER_SUPER):
                # All groups of a block are of one set; bit 15 of an index tells which.
                word = np.uint32(((np.int32(levels[r, first + j]) + 64) << 1) | (found[r, first + j, 0] >> 15))
                for g in range(GROUPS):
                    start = np.uint32(found[r, first + j, g] & (SECOND - 1))
                    i = j * GROUPS + g
                    word |= np.uint32((start >> np.uint32(12)) << np.uint32(8 + 3 * g))
                    row[at + QL + i] = np.uint8(start & np.uint32(255))
                    row[at + QH + i % 32] |= np.uint8(
                        ((start >> np.uint32(8)) & np.uint32(15)) << np.uint32(4 * (i // 32))
                    )
                for i in range(4):
                    row[at + 4 * j + i] = np.uint8((word >> np.uint32(8 * i)) & np.uint32(255))


def _block_scales(batch: Batch, books: list[Codebook]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scale of each block, and whether it takes the second set of starts.

    The trials of the first set, then the second set at the scale they found, then the trials of the second set; the
    score to beat by the last is that of the first set even where the second did better in between, as in the reference.
    """
    n_blocks, n_trials = len(batch.tops), len(OFFSETS)
    inverse = first_scales(batch, LEAST, MOST, OFFSETS, SIGNS)
    scale, score, which = np.zeros(n_blocks, np.float32), np.zeros(n_blocks, np.float32), np.zeros(n_blocks, int)
    _, scales, scores = try_scales(batch, books[0], inverse)
    choose_best(batch.tops, scales, scores, scale, score, which)
    _, scales, scores = try_scales(batch, books[1], np.column_stack([inverse, inverse_of(scale)]))
    better = (scores[:, n_trials] > score) & (batch.tops >= ZERO)
    scale[better] = scales[better, n_trials]
    which[:] = -1
    choose_best(batch.tops, scales[:, :n_trials].copy(), scores[:, :n_trials].copy(), scale, score, which)
    return scale.reshape(batch.shape), better | (which >= 0)


def _encode(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:  # noqa: ARG001 - one search only
    books = [codebook(SECOND, 4, 6, offset=OFFSET + first) for first in (0, SECOND)]
    values = np.concatenate([book.values for book in books])
    for batch in batches(rows, columns, packed):
        scale, second = _block_scales(batch, books)
        d, levels = np.empty(len(batch.rows), np.float32), np.empty_like(scale)
        _levels(scale, batch.row_tops, d, levels)
        inverse = inverse_of(d[:, None] * levels).reshape(-1, 1)
        # A block of the other set gets the inverse 0: no search.
        first, other = (
            nearest(book, batch.x, batch.w, np.where(mine[:, None], inverse, _0))
            for book, mine in zip(books, (~second, second), strict=True)
        )
        found = np.where(np.repeat(second, GROUPS)[:, None], other + np.int32(SECOND), first)
        found = found.reshape(*batch.shape, GROUPS)
        refit(batch.x, batch.w, values, levels, found, d)
        _pack(d, levels, found, batch.packed)


@kernel
def _decode(packed, rows):
    n_rows, n_cols = rows.shape
    for r in range(n_rows):
        row, to = packed[r], rows[r]
        d = load_float(row, 0)
        for s in range(n_cols // SUPER):
            at = ROW_NBYTES + s * NBYTES
            for j in range(BLOCKS_PER_SUPER):
                word = np.uint32(0)
                for i in range(4):
                    word |= np.uint32(np.uint32(row[at + 4 * j + i]) << np.uint32(8 * i))
                step = d * np.float32(np.int32((word >> np.uint32(1)) & np.uint32(127)) - np.int32(64))
                for g in range(GROUPS):
                    i = j * GROUPS + g
                    nibble = (np.uint32(row[at + QH + i % 32]) >> np.uint32(4 * (i // 32))) & np.uint32(15)
                    start = np.uint32(row[at + QL + i]) | np.uint32(nibble << np.uint32(8))
                    start |= np.uint32(((word >> np.uint32(8 + 3 * g)) & np.uint32(7)) << np.uint32(12))
                    start |= np.uint32((word & np.uint32(1)) << np.uint32(15))
                    state = np.uint32(start + np.uint32(OFFSET))
                    for k in range(4):
                        state = next_state(state)
                        to[s * SUPER + i * 4 + k] = step * value_of(state)


CODECS = {"IQ4_KT": Codec(decode=_decode, encode=_encode)}
