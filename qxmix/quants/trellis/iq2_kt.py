"""IQ2_KT: groups of 8 weights are 16-bit starts of a pseudo-random walk; blocks of 32 with a 4-bit scale.

Layout of a row: one float32 ``d``, then super-blocks of 256 weights, 68 bytes each::

    0                                4                                              68
    +--------------------------------+----------------------------------------------+
    | byte j: scale of block j in    | ql: 32 u16, the starts of the groups         |
    | the low, j + 4 in the high     |                                              |
    | nibble                         |                                              |
    +--------------------------------+----------------------------------------------+
    weight = d * IQ4_LEVELS[scale] * step k of the walk

Source: ``block_iq2_kt`` and ``quantize_row_iq2_kt_impl`` of ik_llama.cpp.
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

NBYTES = 68
HALF = BLOCKS_PER_SUPER // 2


def _pack(codes: NDArray[np.uint8], found: NDArray[np.int32]) -> list[NDArray[np.uint8]]:
    return [pair_nibbles(codes), found.astype("<u2").view(np.uint8)]


@np.errstate(all="ignore")  # extreme weights overflow here as in the engine
def _encode(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
    book = codebook(65536, 8, 8)
    encode_levels(rows, columns, packed, book, offsets=(0.0,), factor=factor, pack=_pack)


@inlined
def _put(data, at, d, row, start):
    for j in range(BLOCKS_PER_SUPER):
        step = d * IQ4_LEVELS[(data[at + j % HALF] >> (4 * (j // HALF))) & 15]
        for g in range(GROUPS):
            source = at + HALF + 2 * (j * GROUPS + g)
            state = np.uint32(np.uint32(data[source]) + (np.uint32(data[source + 1]) << 8) + OFFSET)
            for k in range(8):
                state = next_state(state)
                row[start + (j * GROUPS + g) * 8 + k] = step * value_of(state)


CODECS = {"IQ2_KT": Codec(decode=row_decoder(NBYTES, _put, half=False), encode=at_factor(_encode, 1.0), scaled=_encode)}
