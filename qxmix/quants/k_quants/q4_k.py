"""Q4_K: 8 blocks of 32 weights, a 6-bit scale and minimum each, 4-bit codes.

Layout of a super-block, 144 bytes; for the scales see ``affine_k``::

    0       2          4                    16                          144
    +-------+----------+--------------------+---------------------------+
    | d f16 | dmin f16 | scales, minimums   | qs: codes, field F64      |
    +-------+----------+--------------------+---------------------------+

Source: ``block_q4_K`` of ggml.
"""

from __future__ import annotations

from qxmix.quants.codec import Codec
from qxmix.quants.common.superblock import pack_nibbles
from qxmix.quants.jit import inlined
from qxmix.quants.k_quants.affine_k import decode_affine_k, encode_affine_k, feedback_affine_k

NMAX = 15
NBYTES = 144


@inlined
def _pack(code, block):
    pack_nibbles(code, block, 16)


CODECS = {
    "Q4_K": Codec(
        decode=decode_affine_k(NBYTES, 16, 0),
        encode=encode_affine_k(NMAX, NBYTES, -1.0, 20, _pack),
        feedback=feedback_affine_k(NMAX, NBYTES, _pack),
        version=2,
    ),
}
