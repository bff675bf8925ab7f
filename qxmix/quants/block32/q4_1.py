"""Q4_1: 32 weights, a scale and a minimum, 4-bit codes.

Layout of a block, 20 bytes::

    0       2       4                                    20
    +-------+-------+------------------------------------+
    | d f16 | m f16 | qs: byte t = weight t in the low,  |
    |       |       | weight t + 16 in the high nibble   |
    +-------+-------+------------------------------------+
    weight = d * nibble + m

Source: ``block_q4_1`` of ggml; ``quantize_q4_1`` of ik_llama.cpp with an importance, ``quantize_row_q4_1_ref`` without.
"""

from __future__ import annotations

from qxmix.quants.block32.decoder import affine_value, block_decoder, nibbles
from qxmix.quants.block32.encoder import affine_encoder
from qxmix.quants.block32.packing import store_nibbles
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import Codec, importance_decides
from qxmix.quants.common.numerics import store_half
from qxmix.quants.feedback.block32 import affine_feedback
from qxmix.quants.jit import inlined

NMAX = 15
BLOCK_NBYTES = 20


@inlined
def _pack(packed, at, scale, minimum, low, high):
    store_half(packed, at, scale)
    store_half(packed, at + 2, minimum)
    store_nibbles(packed, at + 4, low, high)


searching = affine_encoder(NMAX, BLOCK_NBYTES, _pack)
rounding = rounding_encoder(NMAX, BLOCK_NBYTES, _pack, affine=True)

CODECS = {
    "Q4_1": Codec(
        decode=block_decoder(BLOCK_NBYTES, nibbles(4), affine_value),
        encode=importance_decides(searching, without=rounding),
        feedback=affine_feedback(NMAX, BLOCK_NBYTES, _pack),
    )
}
