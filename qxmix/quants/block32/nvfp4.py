"""NVFP4: 4 blocks of 16 weights, an 8-bit float without sign as scale of each, 4-bit floats.

Layout of a super-block, 36 bytes::

    0                4                                          36
    +----------------+------------------------------------------+
    | 4 scales, E4M3 | qs: byte 8 j + t = weight 16 j + t (low  |
    | without sign   | nibble), weight 16 j + 8 + t (high)      |
    +----------------+------------------------------------------+
    weight = UE4M3[scale] / 2 * E2M1_VALUES[nibble]

Source: ``block_nvfp4`` and ``quantize_row_nvfp4_ref`` of llama.cpp; ik_llama.cpp does not have the type.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.e2m1 import largest_bits, pack_e2m1, unpack_e2m1
from qxmix.quants.codec import Codec
from qxmix.quants.common.reinterpret import bits_of, flattened, float_of
from qxmix.quants.jit import inlined, kernel

SUPER = 64
BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 36
LARGEST = np.uint8(0x7E)
"""448; all bits set would be NaN, which decodes to 0."""

_INF = np.float32(np.inf)
_448 = np.float32(448.0)


def _ue4m3_halves() -> np.ndarray:
    """(256,) half the value of each scale byte, since the 4-bit values are doubled.  The sign bit is not looked at."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    value[0x7F] = 0
    return (value / 2).astype(np.float32)


UE4M3_HALVES = _ue4m3_halves()


@inlined
def _ue4m3(x):
    """The scale byte nearest to float32 ``x``, halves rounded up; llama.cpp takes 448 for all from 256 on."""
    x = min(x, _448)
    bits = bits_of(x)
    exponent = np.int32(bits >> np.uint32(23)) - 120
    if exponent <= 0:  # a subnormal E4M3, whose unit is 2 ** -9; the reference clamps it below the normal ones
        return np.uint8(min(np.int32(x * np.float32(512.0) + np.float32(0.5)), np.int32(7)))
    code = exponent << 3 | np.int32((bits >> np.uint32(20)) & np.uint32(7))
    code += np.int32((bits >> np.uint32(19)) & np.uint32(1))
    return np.uint8(min(code, np.int32(LARGEST)))


@kernel
def _encode(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    for block in range(rows.size // BLOCK):
        at, j = block // N_BLOCKS * NBYTES, block % N_BLOCKS
        largest = float_of(largest_bits(flat, block * BLOCK, BLOCK))
        scale = _ue4m3(largest / np.float32(6.0))
        out[at + j] = scale
        # With scale 0 all codes are as good, and the reference takes the first: what no weight exceeds.
        d = UE4M3_HALVES[scale] if scale else _INF
        pack_e2m1(flat, block * BLOCK, BLOCK, d, out, at + 4 + 8 * j)


@kernel
def _decode(packed, rows):
    data, flat = flattened(packed), flattened(rows)
    for block in range(rows.size // BLOCK):
        at, j = block // N_BLOCKS * NBYTES, block % N_BLOCKS
        unpack_e2m1(data, at + 4 + 8 * j, BLOCK, UE4M3_HALVES[data[at + j]], flat, block * BLOCK)


CODECS = {"NVFP4": Codec(decode=_decode, encode=_encode)}
