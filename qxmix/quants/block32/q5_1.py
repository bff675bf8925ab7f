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

from qxmix.quants.block32.decoder import affine_value, block_decoder, five_bits
from qxmix.quants.block32.encoder import affine_encoder
from qxmix.quants.block32.packing import store_five_bits
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import Codec, importance_decides
from qxmix.quants.common.numerics import store_half
from qxmix.quants.feedback.block32 import affine_feedback
from qxmix.quants.jit import inlined

NMAX = 31
BLOCK_NBYTES = 24


@inlined
def _pack(packed, at, scale, minimum, low, high):
    store_half(packed, at, scale)
    store_half(packed, at + 2, minimum)
    store_five_bits(packed, at + 4, low, high)


searching = affine_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(NMAX, BLOCK_NBYTES, _pack, affine=True)

CODECS = {
    "Q5_1": Codec(
        decode=block_decoder(BLOCK_NBYTES, five_bits(4), affine_value),
        encode=importance_decides(searching, without=rounding),
        feedback=affine_feedback(NMAX, BLOCK_NBYTES, _pack),
    )
}
