"""Q4_1: 32 weights, a scale and a minimum, 4-bit levels 0..15.

Layout of a block, 20 bytes::

    0       2       4                                    20
    +-------+-------+------------------------------------+
    | d f16 | m f16 | qs: byte t = weight t in the low,  |
    |       |       | weight t + 16 in the high nibble   |
    +-------+-------+------------------------------------+
    weight = d * nibble + m

Source: ``block_q4_1`` of ggml.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32 import BLOCK
from qxmix.quants.codec import Codec
from qxmix.quants.jit import kernel
from qxmix.quants.numerics import load_half

BLOCK_NBYTES = 20


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // BLOCK):
        at, to = block * BLOCK_NBYTES, block * BLOCK
        d, m = load_half(data, at), load_half(data, at + 2)
        for t in range(16):
            byte = np.int32(data[at + 4 + t])
            flat[to + t] = d * np.float32(byte & 15) + m
            flat[to + t + 16] = d * np.float32(byte >> 4) + m


CODECS = {"Q4_1": Codec(decode=_decode)}
