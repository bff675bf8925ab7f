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

from qxmix.quants.block32.legacy import FIVE_BITS, affine_codecs

CODECS = affine_codecs("Q5_1", FIVE_BITS)
