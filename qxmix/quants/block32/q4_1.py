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

from qxmix.quants.block32.legacy import NIBBLES, affine_codecs

CODECS = affine_codecs("Q4_1", NIBBLES)
