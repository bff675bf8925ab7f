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
from numpy.typing import NDArray

from qxmix.quants.codec import Codec, Columns, Packed, Rows, at_factor
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import BLOCKS_PER_SUPER, pair_nibbles
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.levels import GROUPS, encode_levels

NBYTES = 56
LOW, HIGH = 8, 40
"""Offsets of ql and qh."""
HALF = BLOCKS_PER_SUPER // 2


def _pack(codes: NDArray[np.uint8], found: NDArray[np.int32]) -> list[NDArray[np.uint8]]:
    tops = np.packbits((found >> 12).astype(np.uint8).reshape(-1, GROUPS), axis=1, bitorder="little")
    nibbles = ((found >> 8) & 15).astype(np.uint8)
    return [codes | tops.reshape(codes.shape) << np.uint8(4), found.astype(np.uint8), pair_nibbles(nibbles)]


@np.errstate(all="ignore")  # extreme weights overflow here as in the engine
def _encode(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
    book = codebook(8192, 8, 32)
    encode_levels(rows, columns, packed, book, offsets=(0.0, -8.0), factor=factor, pack=_pack)


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


CODECS = {
    "IQ1_KT": Codec(decode=row_decoder(NBYTES, _put, half=False), encode=at_factor(_encode, 1.07), scaled=_encode)
}
