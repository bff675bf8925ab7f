"""Q5_K: 8 blocks of 32 weights, a 6-bit scale and minimum each, 5-bit codes.

Layout of a super-block, 176 bytes; for the scales see ``affine_k``::

    0       2          4                    16                    48                          176
    +-------+----------+--------------------+---------------------+---------------------------+
    | d f16 | dmin f16 | scales, minimums   | qh: bit 4, field BP | qs: low 4 bits, field F64 |
    +-------+----------+--------------------+---------------------+---------------------------+

Source: ``block_q5_K`` of ggml.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.common.superblock import pack_bit, pack_nibbles
from qxmix.quants.jit import inlined
from qxmix.quants.k_quants.affine_k import decode_affine_k, encode_affine_k, feedback_affine_k

NMAX = 31
NBYTES = 176


@inlined
def _pack(code, block):
    pack_bit(code, np.uint8(4), block, 16)
    pack_nibbles(code, block, 48)


CODECS = {
    "Q5_K": Codec(
        decode=decode_affine_k(NBYTES, 48, 16),
        encode=encode_affine_k(NMAX, NBYTES, -0.5, 15, _pack),
        feedback=feedback_affine_k(NMAX, NBYTES, _pack),
        version=3,
    ),
}
