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

from qxmix.quants.block32.legacy import FIVE_BITS, linear_codecs

CODECS = linear_codecs("Q5_0", FIVE_BITS)
