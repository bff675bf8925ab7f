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

from qxmix.quants.codec import Codec, Columns, Packed, Rows, at_factor
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import (
    BLOCKS_PER_SUPER,
    batches,
    choose_best,
    first_scales,
    pair_nibbles,
    store,
    try_scales,
)
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.queries import BLOCK
from qxmix.quants.trellis.rows import inverse_of, refit, search_rows_16
from qxmix.quants.trellis.search import nearest

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


@np.errstate(all="ignore")  # extreme weights overflow here as in the engine
def _encode(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
    book = codebook(65536, 8, 8, magnitudes=True)
    for batch in batches(rows, columns, packed, magnitudes=True):
        x, w, every = batch.x, batch.w, np.arange(batch.tops.size)
        inverse = first_scales(batch, LEAST, MOST, OFFSETS, np.ones_like(OFFSETS))
        tried, scales, scores = try_scales(batch, book, inverse)
        best = choose_best(batch, scales, scores, None)
        scale = best.scale.reshape(batch.tops.shape)
        found = tried.reshape(len(every), GROUPS, -1)[every, :, best.trial].reshape(*scale.shape, GROUPS)
        d = np.empty(len(scale), np.float32)
        search_rows_16(x, w, book.values, found, scale, d)
        levels = np.fmax(np.fmin(np.rint(inverse_of(d)[:, None] * scale), _TOP), _0)
        found = nearest(book, x, w, inverse_of(d[:, None] * levels).reshape(-1, 1)).reshape(found.shape)
        refit(x, w, book.values, levels, found, d)
        blocks = len(scale), -1, BLOCKS_PER_SUPER
        starts = found.astype("<u2").reshape(len(scale), -1, BLOCKS_PER_SUPER * GROUPS).view(np.uint8)
        signs = np.packbits(batch.rows.reshape(*blocks, BLOCK) < _0, axis=2, bitorder="little")[:, :, 0]
        store(d * factor, [pair_nibbles(levels.astype(np.uint8).reshape(blocks)), starts, signs], batch.packed)


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


CODECS = {"IQ3_KT": Codec(decode=row_decoder(NBYTES, _put, half=False), encode=at_factor(_encode, 1.0), scaled=_encode)}
