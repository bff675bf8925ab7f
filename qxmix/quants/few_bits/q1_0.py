"""Q1_0: 128 weights, one scale, one bit.  ik_llama.cpp calls it Q1_0_G128.

Layout of a block, 18 bytes::

    0       2                                    18
    +-------+------------------------------------+
    | d f16 | qs: bit e % 8 of byte e // 8 set:  |
    |       | weight e is d, else it is -d       |
    +-------+------------------------------------+

Source: ``block_q1_0`` and ``quantize_row_q1_0_ref`` of llama.cpp: d is the mean magnitude, summed in order.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.jit import kernel

BLOCK = 128
BLOCK_NBYTES = 18

_0 = np.float32(0.0)


@kernel
def _encode(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    for block in range(rows.size // BLOCK):
        at, x = block * BLOCK_NBYTES, flat[block * BLOCK : (block + 1) * BLOCK]
        total = _0
        for e in range(BLOCK):
            total += abs(x[e])
        store_half(out, at, total / np.float32(BLOCK))
        for t in range(BLOCK // 8):
            byte = np.uint8(0)
            for i in range(8):
                byte |= np.uint8(np.uint8(x[8 * t + i] >= _0) << np.uint8(i))
            out[at + 2 + t] = byte


@kernel
def _decode(packed, rows):
    data, flat = flattened(packed), flattened(rows)
    for block in range(rows.size // BLOCK):
        at, x = block * BLOCK_NBYTES, flat[block * BLOCK : (block + 1) * BLOCK]
        d = load_half(data, at)
        for e in range(BLOCK):
            x[e] = d if (data[at + 2 + e // 8] >> np.uint8(e % 8)) & np.uint8(1) else -d


CODECS = {"Q1_0": Codec(decode=_decode, encode=_encode)}
