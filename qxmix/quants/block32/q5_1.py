"""Q5_1: 32 weights, a scale and a minimum, 5-bit codes.

Layout of a block, 24 bytes::

    0       2       4                      8                                    24
    +-------+-------+----------------------+------------------------------------+
    | d f16 | m f16 | qh u32: bit e = bit  | qs: byte t = low 4 bits of weight  |
    |       |       | 4 of weight e        | t (low nibble) and t + 16 (high)   |
    +-------+-------+----------------------+------------------------------------+
    weight = d * code + m

Source: ``block_q5_1`` of ggml; ``quantize_q5_1`` of ik_llama.cpp with an importance, ``quantize_row_q5_1_ref`` without.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.encoder import BLOCK, affine_encoder
from qxmix.quants.block32.packing import store_five_bits
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import Codec, importance_decides
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.feedback.block32 import affine_feedback
from qxmix.quants.jit import inlined, kernel

NMAX = 31
BLOCK_NBYTES = 24


@inlined
def _pack(packed, at, scale, minimum, low, high):
    store_half(packed, at, scale)
    store_half(packed, at + 2, minimum)
    store_five_bits(packed, at + 4, low, high)


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // BLOCK):
        at, to = block * BLOCK_NBYTES, block * BLOCK
        d, m = load_half(data, at), load_half(data, at + 2)
        for t in range(16):
            byte = np.int32(data[at + 8 + t])
            fifth_low = (np.int32(data[at + 4 + t // 8]) >> (t % 8)) & 1
            fifth_high = (np.int32(data[at + 6 + t // 8]) >> (t % 8)) & 1
            flat[to + t] = d * np.float32(byte & 15 | fifth_low << 4) + m
            flat[to + t + 16] = d * np.float32(byte >> 4 | fifth_high << 4) + m


searching = affine_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(NMAX, BLOCK_NBYTES, _pack, affine=True)

CODECS = {
    "Q5_1": Codec(
        decode=_decode,
        encode=importance_decides(searching, without=rounding),
        feedback=affine_feedback(NMAX, BLOCK_NBYTES, _pack),
    )
}
