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

from qxmix.quants.block32.decoder import block_decoder, five_bits, linear_value
from qxmix.quants.block32.encoder import linear_encoder
from qxmix.quants.block32.packing import store_five_bits
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import SEARCHES, Codec, importance_decides
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.feedback.block32 import linear_feedback
from qxmix.quants.jit import inlined

NMAX = 16
BLOCK_NBYTES = 22


@inlined
def _pack(packed, at, scale, _minimum, low, high):
    store_half(packed, at, scale)
    store_five_bits(packed, at + 2, low, high)


searching = linear_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(2 * NMAX - 1, BLOCK_NBYTES, _pack, affine=False)

CODECS = {
    "Q5_0": Codec(
        decode=block_decoder(BLOCK_NBYTES, five_bits(2), linear_value(NMAX)),
        encode=importance_decides(searching, without=rounding),
        searches=SEARCHES,
        version=3,
        feedback=linear_feedback(NMAX, BLOCK_NBYTES, _pack),
        search_block=linear_search(NMAX),
    ),
}
