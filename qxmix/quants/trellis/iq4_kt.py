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

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.codec import Packed
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import (
    BLOCKS_PER_SUPER,
    Batch,
    Best,
    Fitted,
    choose_best,
    first_scales,
    pair_nibbles,
    store,
    try_scales,
)
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.kind import TrellisType, trellis_codec
from qxmix.quants.trellis.rows import inverse_of, refit
from qxmix.quants.trellis.sets import Sets, sets_of

NBYTES = 128
QL, QH = 32, 96
"""Offsets of ql and qh."""
GROUPS = 8
"""Groups of a block."""
SECOND = 32768
"""How far the second set of starts is from the first."""
ZERO_CODE = 64
"""Code of a block whose scale is zero."""
LEAST, MOST = 90.0, 124.0
OFFSETS = np.repeat(np.arange(-2, 3, dtype=np.float32) * np.float32(8.0), 2)
SIGNS = np.tile(np.array([1, -1], dtype=np.float32), 5)

_0 = np.float32(0.0)
_TOP = np.float32(63.0)


def _levels(scale: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale of each row, and the levels of its blocks: -64 where its largest scale is, 0 throughout if it has none."""
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1)[:, None], axis=1)
    d = -largest / np.float32(64.0)
    return d[:, 0], np.fmin(np.rint(inverse_of(d) * scale), _TOP)


def _pack(fitted: Fitted, packed: Packed) -> None:
    # A row without levels gets zero bytes behind its scale.
    live = (fitted.codes != ZERO_CODE).any(axis=(1, 2), keepdims=True)
    codes, found = np.where(live, fitted.codes, np.uint8(0)), np.where(live, fitted.found, np.int32(0))
    low, nibbles = found.astype(np.uint8), ((found >> 8) & 15).astype(np.uint8)
    by_block = found.reshape(*codes.shape, GROUPS).astype(np.uint32)
    # All groups of a block are of one set.
    words = codes.astype(np.uint32) << np.uint32(1) | by_block[..., 0] >> np.uint32(15)
    for g in range(GROUPS):
        words |= (by_block[..., g] >> np.uint32(12) & np.uint32(7)) << np.uint32(8 + 3 * g)
    store(fitted.d, [words.view(np.uint8), low, pair_nibbles(nibbles)], packed)


def _block_scales(batch: Batch, sets: Sets) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scale of each block, and whether it takes the second set of starts.

    The trials of the first set, then the second set at the scale they found, then the trials of the second set; the
    score to beat by the last is that of the first set even where the second did better in between, as in the reference.
    """
    inverse = first_scales(batch, LEAST, MOST, OFFSETS, SIGNS)
    _, scales, scores = try_scales(batch, sets.books[0], inverse)
    first = choose_best(batch, scales, scores, None)
    _, scales, scores = try_scales(batch, sets.books[1], np.column_stack([inverse, inverse_of(first.scale)]))
    between = choose_best(batch, scales[:, -1:], scores[:, -1:], first)
    last = choose_best(batch, scales[:, :-1], scores[:, :-1], Best(between.scale, first.score, between.trial))
    return last.scale.reshape(batch.tops.shape), (between.trial >= 0) | (last.trial >= 0)


def _rough(batch: Batch, sets: Sets) -> Fitted:
    """Scales, and of the code vectors the first of the set of each block."""
    scale, second = _block_scales(batch, sets)
    d, levels = _levels(scale)
    d = np.where(batch.tops.max(axis=1) == _0, _0, d)
    return batch.fitted(d, levels.astype(np.int32) + ZERO_CODE, np.repeat(second * np.int32(SECOND), GROUPS))


def _refine(batch: Batch, sets: Sets, rough: Fitted) -> Fitted:
    d = rough.d.copy()
    levels = (rough.codes.astype(np.float32) - np.float32(ZERO_CODE)).reshape(len(d), -1)
    blocks, steps = (levels.size, -1), (d[:, None] * levels).reshape(-1, 1)
    which = sets.which(rough.found.reshape(blocks)[:, 0])
    found = sets.nearest(which, batch.x.reshape(blocks), batch.w.reshape(blocks), steps)
    refit(batch.x, batch.w, sets.values, levels, found.reshape(*levels.shape, GROUPS), d)
    return batch.fitted(d, rough.codes, found)


@inlined
def _put(data, at, d, row, start):
    for j in range(BLOCKS_PER_SUPER):
        word = np.uint32(0)
        for i in range(4):
            word |= np.uint32(np.uint32(data[at + 4 * j + i]) << np.uint32(8 * i))
        step = d * np.float32(np.int32((word >> np.uint32(1)) & np.uint32(127)) - np.int32(64))
        for g in range(GROUPS):
            i = j * GROUPS + g
            nibble = (np.uint32(data[at + QH + i % 32]) >> np.uint32(4 * (i // 32))) & np.uint32(15)
            first = np.uint32(data[at + QL + i]) | np.uint32(nibble << np.uint32(8))
            first |= np.uint32(((word >> np.uint32(8 + 3 * g)) & np.uint32(7)) << np.uint32(12))
            first |= np.uint32((word & np.uint32(1)) << np.uint32(15))
            state = np.uint32(first + np.uint32(OFFSET))
            for k in range(4):
                state = next_state(state)
                row[start + i * 4 + k] = step * value_of(state)


_KIND = TrellisType(
    nbytes=NBYTES,
    levels=np.arange(-ZERO_CODE, ZERO_CODE, dtype=np.float32),
    sets=lambda: sets_of(*(codebook(SECOND, 4, 6, offset=OFFSET + first) for first in (0, SECOND))),
    rough=_rough,
    refine=_refine,
    pack=_pack,
    put=_put,
)
CODECS = {"IQ4_KT": trellis_codec(_KIND)}
