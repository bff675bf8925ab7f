"""IQ1_KT: groups of 8 weights are 13-bit starts of a pseudo-random walk; blocks of 32 with a 4-bit scale.

Layout of a row: one float32 ``d``, then super-blocks of 256 weights, 56 bytes each::

    0                        8                         40                            56
    +------------------------+-------------------------+-----------------------------+
    | sh: byte j: scale of   | ql: byte 4 j + g: low 8 | qh: byte 4 (j % 4) + g:     |
    | block j in bits 0-3,   | bits of the start of    | bits 8-11 of group g of     |
    | bit 12 of the start of | group g of block j      | block j, in the high nibble |
    | group g in bit 4 + g   |                         | for j >= 4                  |
    +------------------------+-------------------------+-----------------------------+
    weight = d * IQ4_LEVELS[scale] * step k of the walk

Source: ``block_iq1_kt`` and ``quantize_row_iq1_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Packed
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import BLOCKS_PER_SUPER, Batch, Fitted, pair_nibbles, store
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.kind import TrellisType, trellis_codec
from qxmix.quants.trellis.levels import GROUPS, refine_levels, rough_levels
from qxmix.quants.trellis.sets import Sets, sets_of

NBYTES = 56
LOW, HIGH = 8, 40
"""Offsets of ql and qh."""
HALF = BLOCKS_PER_SUPER // 2


def _pack(fitted: Fitted, packed: Packed) -> None:
    found = fitted.found
    tops = np.packbits((found >> 12).astype(np.uint8).reshape(-1, GROUPS), axis=1, bitorder="little")
    scales = fitted.codes | tops.reshape(fitted.codes.shape) << np.uint8(4)
    nibbles = pair_nibbles(((found >> 8) & 15).astype(np.uint8))
    store(fitted.d, [scales, found.astype(np.uint8), nibbles], packed)


def _rough(batch: Batch, sets: Sets) -> Fitted:
    return rough_levels(batch, sets.books[0], (0.0, -8.0))


@inlined
def _put(data, at, d, row, start):
    for j in range(BLOCKS_PER_SUPER):
        byte = np.uint32(data[at + j])
        step = d * IQ4_LEVELS[byte & np.uint32(15)]
        for g in range(GROUPS):
            nibble = (np.uint32(data[at + HIGH + (j % HALF) * GROUPS + g]) >> (4 * (j // HALF))) & 15
            first = np.uint32(data[at + LOW + j * GROUPS + g]) | (nibble << 8) | (((byte >> (4 + g)) & 1) << 12)
            state = np.uint32(first + OFFSET)
            for k in range(8):
                state = next_state(state)
                row[start + (j * GROUPS + g) * 8 + k] = step * value_of(state)


_KIND = TrellisType(
    nbytes=NBYTES,
    levels=IQ4_LEVELS,
    sets=lambda: sets_of(codebook(8192, 8, 32)),
    rough=_rough,
    refine=refine_levels,
    pack=_pack,
    put=_put,
)
CODECS = {"IQ1_KT": trellis_codec(_KIND, 1.07)}
