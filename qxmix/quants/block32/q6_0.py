"""Q6_0: 32 weights, one scale, 6-bit levels -32..31.  ik_llama.cpp only.

Layout of a block, 26 bytes::

    0       2                              10                                   26
    +-------+------------------------------+------------------------------------+
    | d f16 | qh: byte t (0..7) holds the  | qs: byte t = low 4 bits of weight  |
    |       | upper 2 bits of four weights | t (low nibble) and t + 16 (high)   |
    +-------+------------------------------+------------------------------------+
    qh byte t, from bit 0:  weight t | t + 16 | t + 8 | t + 24
    weight = d * (code - 32)

Source: ``block_q6_0`` and ``quantize_q6_0`` of ik_llama.cpp, which searches with and without an importance.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.decoder import block_decoder, linear_value
from qxmix.quants.block32.encoder import linear_encoder
from qxmix.quants.block32.packing import store_nibbles
from qxmix.quants.codec import SEARCHES, Codec
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.common.simd import load_word, store_bytes, truncate
from qxmix.quants.feedback.block32 import linear_feedback
from qxmix.quants.jit import inlined

NMAX = 32
BLOCK_NBYTES = 26

_4 = np.float32(4.0)
_16 = np.float32(16.0)
_SIXTEENTH = np.float32(1 / 16)


@inlined
def _pack(packed, at, scale, _minimum, low, high):
    store_half(packed, at, scale)
    upper_low, upper_high = truncate(low * _SIXTEENTH), truncate(high * _SIXTEENTH)
    # 16 bytes: the second half of them moves into the upper nibbles of the first, and makes room for the fields below.
    store_bytes(packed, at + 2, upper_low + _4 * upper_high)
    for t in range(8):
        packed[at + 2 + t] |= np.uint8(packed[at + 10 + t] << np.uint8(4))
    store_nibbles(packed, at + 10, low - _16 * upper_low, high - _16 * upper_high)


@inlined
def _codes(data, block, t):
    byte = np.int32(data[block + 10 + t])
    first, second = load_word(data, block + 2), load_word(data, block + 6)
    upper = np.int32(((second if t & 4 else first) >> np.uint32(8 * (t & 3) + 4 * (t >> 3))) & np.uint32(15))
    return byte & 15 | (upper & 3) << 4, byte >> 4 | (upper >> 2) << 4


CODECS = {
    "Q6_0": Codec(
        decode=block_decoder(BLOCK_NBYTES, _codes, linear_value(NMAX)),
        encode=linear_encoder(NMAX, BLOCK_NBYTES, _pack),
        searches=SEARCHES,
        version=5,
        feedback=linear_feedback(NMAX, BLOCK_NBYTES, _pack),
        search_block=linear_search(NMAX),
    )
}
