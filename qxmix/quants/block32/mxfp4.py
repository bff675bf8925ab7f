"""MXFP4: 32 weights, a power of two as scale, 4-bit floats.

Layout of a block, 17 bytes::

    0      1                                    17
    +------+------------------------------------+
    | e u8 | qs: byte t = weight t in the low,  |
    |      | weight t + 16 in the high nibble   |
    +------+------------------------------------+
    weight = 2 ** (e - 128) * E2M1_VALUES[nibble]

Source: ``block_mxfp4`` and ``quantize_row_mxfp4_ref`` of ggml; both engines and the gguf package write the same bytes.
"""

from __future__ import annotations

import math

import numpy as np

from qxmix.quants.block32.e2m1 import largest_bits, pack_32, unpack_e2m1
from qxmix.quants.block32.encoder import BLOCK
from qxmix.quants.codec import Codec
from qxmix.quants.common.reinterpret import flattened, float_of
from qxmix.quants.jit import inlined, kernel

BLOCK_NBYTES = 17


@inlined
def _exponent(bits):
    """``floor(log2f(largest)) - 2 + 127`` of the largest magnitude, whose bits these are.

    The float32 logarithm of a value just below a power of two may round up to the whole number.  Below ``2 ** -125``
    the reference wraps around to a huge scale, with which all codes are 0; here the least scale is taken.
    """
    if np.uint32(bits & np.uint32(0x7FFFFF)) >= np.uint32(0x7FFF00):
        magnitude = np.float64(float_of(bits))
        return max(np.int32(math.floor(np.float32(math.log2(magnitude)))) + 125, np.int32(0))
    return max(np.int32(bits >> np.uint32(23)) - 2, np.int32(0))


@inlined
def _scale(e):
    """``2 ** (e - 128)``; the first two are subnormal."""
    bits = np.uint32(0x00200000) << np.uint32(e) if e < 2 else np.uint32(e - 1) << np.uint32(23)  # noqa: PLR2004
    return float_of(bits)


@kernel
def _encode(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    for block in range(rows.size // BLOCK):
        at, of = block * BLOCK_NBYTES, block * BLOCK
        e = _exponent(largest_bits(flat, of, BLOCK))
        out[at] = np.uint8(e)
        pack_32(flat, of, _scale(e), out, at + 1)


@kernel
def _decode(packed, rows):
    data, flat = flattened(packed), flattened(rows)
    for block in range(rows.size // BLOCK):
        at = block * BLOCK_NBYTES
        unpack_e2m1(data, at + 1, BLOCK, _scale(np.int32(data[at])), flat, block * BLOCK)


CODECS = {"MXFP4": Codec(decode=_decode, encode=_encode)}
