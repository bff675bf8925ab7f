"""Q4_0: 32 weights, one scale, 4-bit levels -8..7.

Layout of a block, 18 bytes::

    0       2                                    18
    +-------+------------------------------------+
    | d f16 | qs: byte t = weight t in the low,  |
    |       | weight t + 16 in the high nibble   |
    +-------+------------------------------------+
    weight = d * (nibble - 8)

Source: ``block_q4_0`` of ggml; ``quantize_q4_0`` of ik_llama.cpp with an importance, ``quantize_row_q4_0_ref`` without.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.encoder import BLOCK, linear_encoder
from qxmix.quants.block32.packing import store_nibbles
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import SEARCHES, Codec, importance_decides
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.feedback.block32 import linear_feedback
from qxmix.quants.jit import inlined, kernel

NMAX = 8
BLOCK_NBYTES = 18


@inlined
def _pack(packed, at, scale, minimum, low, high):  # noqa: ARG001 - the signature of all
    store_half(packed, at, scale)
    store_nibbles(packed, at + 2, low, high)


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // BLOCK):
        at, to = block * BLOCK_NBYTES, block * BLOCK
        d = load_half(data, at)
        for t in range(16):
            byte = np.int32(data[at + 2 + t])
            flat[to + t] = d * np.float32((byte & 15) - NMAX)
            flat[to + t + 16] = d * np.float32((byte >> 4) - NMAX)


searching = linear_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(2 * NMAX - 1, BLOCK_NBYTES, _pack, affine=False)

CODECS = {
    "Q4_0": Codec(
        decode=_decode,
        encode=importance_decides(searching, without=rounding),
        searches=SEARCHES,
        version=2,
        feedback=linear_feedback(NMAX, BLOCK_NBYTES, _pack),
        search_block=linear_search(NMAX),
    ),
}
