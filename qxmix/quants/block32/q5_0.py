"""Q5_0: 32 weights, one scale, 5-bit levels -16..15.

Layout of a block, 22 bytes::

    0       2                      6                                    22
    +-------+----------------------+------------------------------------+
    | d f16 | qh u32: bit e = bit  | qs: byte t = low 4 bits of weight  |
    |       | 4 of weight e        | t (low nibble) and t + 16 (high)   |
    +-------+----------------------+------------------------------------+
    weight = d * (code - 16)

Source: ``block_q5_0`` of ggml; ``quantize_q5_0`` of ik_llama.cpp with an importance, ``quantize_row_q5_0_ref`` without.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.encoder import BLOCK, encode_linear, encode_rounding
from qxmix.quants.codec import SEARCHES, Codec, importance_decides
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.jit import inlined, kernel

NMAX = 16
BLOCK_NBYTES = 22


@inlined
def _pack(out, at, scale, q, k):
    store_half(out, at, scale)
    fifth = np.uint32(0)
    for t in range(16):
        low, high = np.uint32(np.int32(q[t, k]) + NMAX), np.uint32(np.int32(q[t + 16, k]) + NMAX)
        out[at + 6 + t] = np.uint8((low & np.uint32(15)) | ((high & np.uint32(15)) << np.uint32(4)))
        fifth |= (low >> np.uint32(4)) << np.uint32(t) | (high >> np.uint32(4)) << np.uint32(t + 16)
    for i in range(4):
        out[at + 2 + i] = np.uint8((fifth >> np.uint32(8 * i)) & np.uint32(255))


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // BLOCK):
        at, to = block * BLOCK_NBYTES, block * BLOCK
        d = load_half(data, at)
        for t in range(16):
            byte = np.int32(data[at + 6 + t])
            fifth_low = (np.int32(data[at + 2 + t // 8]) >> (t % 8)) & 1
            fifth_high = (np.int32(data[at + 4 + t // 8]) >> (t % 8)) & 1
            flat[to + t] = d * np.float32((byte & 15 | fifth_low << 4) - NMAX)
            flat[to + t + 16] = d * np.float32((byte >> 4 | fifth_high << 4) - NMAX)


searching = encode_linear(NMAX, BLOCK_NBYTES, _pack)
rounding = encode_rounding(NMAX, BLOCK_NBYTES, _pack)

CODECS = {
    "Q5_0": Codec(
        decode=_decode,
        encode=importance_decides(searching, without=rounding),
        searches=SEARCHES,
        search_block=linear_search(NMAX),
    ),
}
