"""Q4_0: 32 weights, one scale, 4-bit levels -8..7.

Layout of a block, 18 bytes::

    0       2                                    18
    +-------+------------------------------------+
    | d f16 | qs: byte t = weight t in the low,  |
    |       | weight t + 16 in the high nibble   |
    +-------+------------------------------------+
    weight = d * (nibble - 8)

Source: ``block_q4_0`` of ggml; ``quantize_q4_0`` of ik_llama.cpp with an importance, ``quantize_row_q4_0_ref`` without,
``quantize_row_q4_0_symmetric`` for levels -7..7.
"""

from __future__ import annotations

from qxmix.quants.block32.legacy import NIBBLES, linear_codecs

CODECS = linear_codecs("Q4_0", NIBBLES, symmetric=True)
