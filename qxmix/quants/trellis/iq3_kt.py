"""IQ3_KT: magnitudes of 8 weights are a 16-bit start of a pseudo-random walk; blocks of 32 with a 4-bit scale.

Layout of a row: one float32 ``d``, then super-blocks of 256 weights, 100 bytes each::

    0                           4                              68                      100
    +---------------------------+------------------------------+-----------------------+
    | byte j: scale of block j  | ql: 32 u16, the starts of    | qh: bit j of byte t:  |
    | in the low, j + 4 in the  | the groups                   | sign of weight t of   |
    | high nibble               |                              | block j               |
    +---------------------------+------------------------------+-----------------------+
    weight = d * scale * |step k of the walk|, negative where the sign is set

Source: ``block_iq3_kt`` and ``quantize_row_iq3_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Packed
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import (
    BLOCKS_PER_SUPER,
    Batch,
    Fitted,
    choose_best,
    first_scales,
    pair_nibbles,
    store,
    try_scales,
)
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.kind import TrellisType, trellis_codec
from qxmix.quants.trellis.queries import BLOCK
from qxmix.quants.trellis.rows import inverse_of, refit, search_rows_16
from qxmix.quants.trellis.search import nearest
from qxmix.quants.trellis.sets import Sets, sets_of

NBYTES = 100
QH = 68
"""Offset of qh."""
GROUPS = 4
"""Groups of a block."""
HALF = BLOCKS_PER_SUPER // 2
LEAST, MOST = 84.0, 123.0
OFFSETS = np.arange(-3, 4, dtype=np.float32) * np.float32(8.0)

_0 = np.float32(0.0)
_TOP = np.float32(15.0)


def _rough(batch: Batch, sets: Sets) -> Fitted:
    x, w, (book,), every = batch.x, batch.w, sets.books, np.arange(batch.tops.size)
    inverse = first_scales(batch, LEAST, MOST, OFFSETS, np.ones_like(OFFSETS))
    tried, scales, scores = try_scales(batch, book, inverse)
    best = choose_best(batch, scales, scores, None)
    scale = best.scale.reshape(batch.tops.shape)
    found = tried.reshape(len(every), GROUPS, -1)[every, :, best.trial].reshape(*scale.shape, GROUPS)
    d = np.empty(len(scale), np.float32)
    search_rows_16(x, w, book.values, found, scale, d)
    return batch.fitted(d, np.fmax(np.fmin(np.rint(inverse_of(d)[:, None] * scale), _TOP), _0), found)


def _refine(batch: Batch, sets: Sets, rough: Fitted) -> Fitted:
    (book,), x, w, d = sets.books, batch.x, batch.w, rough.d.copy()
    levels = rough.codes.reshape(len(d), -1).astype(np.float32)
    found = nearest(book, x, w, inverse_of(d[:, None] * levels).reshape(-1, 1))
    refit(x, w, book.values, levels, found.reshape(*levels.shape, GROUPS), d)
    return batch.fitted(d, rough.codes, found)


def _pack(fitted: Fitted, packed: Packed) -> None:
    by_block = fitted.negative.reshape(*fitted.codes.shape, BLOCK)
    signs = np.packbits(by_block, axis=2, bitorder="little")[:, :, 0]
    store(fitted.d, [pair_nibbles(fitted.codes), fitted.found.astype("<u2").view(np.uint8), signs], packed)


@inlined
def _put(data, at, d, row, start):
    for j in range(BLOCKS_PER_SUPER):
        step = d * np.float32(np.int32((data[at + j % HALF] >> (4 * (j // HALF))) & 15))
        for g in range(GROUPS):
            source = at + HALF + 2 * (j * GROUPS + g)
            state = np.uint32(np.uint32(data[source]) + (np.uint32(data[source + 1]) << 8) + OFFSET)
            for k in range(8):
                state = next_state(state)
                value = step * abs(value_of(state))
                minus = (data[at + QH + g * 8 + k] >> j) & 1
                row[start + (j * GROUPS + g) * 8 + k] = -value if minus else value


_KIND = TrellisType(
    nbytes=NBYTES,
    levels=np.arange(16, dtype=np.float32),
    sets=lambda: sets_of(codebook(65536, 8, 8, magnitudes=True), magnitudes=True),
    rough=_rough,
    refine=_refine,
    pack=_pack,
    put=_put,
)
CODECS = {"IQ3_KT": trellis_codec(_KIND, 1.0)}
