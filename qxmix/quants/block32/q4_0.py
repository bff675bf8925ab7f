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

from qxmix.quants.block32.decoder import block_decoder, linear_value, nibbles
from qxmix.quants.block32.encoder import linear_encoder
from qxmix.quants.block32.packing import store_nibbles
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import SEARCHES, Codec, importance_decides
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.feedback.block32 import linear_feedback
from qxmix.quants.jit import inlined

NMAX = 8
BLOCK_NBYTES = 18


@inlined
def _pack(packed, at, scale, _minimum, low, high):
    store_half(packed, at, scale)
    store_nibbles(packed, at + 2, low, high)


searching = linear_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(2 * NMAX - 1, BLOCK_NBYTES, _pack, affine=False)

CODECS = {
    "Q4_0": Codec(
        decode=block_decoder(BLOCK_NBYTES, nibbles(2), linear_value(NMAX)),
        encode=importance_decides(searching, without=rounding),
        searches=SEARCHES,
        version=3,
        feedback=linear_feedback(NMAX, BLOCK_NBYTES, _pack),
        search_block=linear_search(NMAX),
    ),
}
