"""The fields of packed bits that the types with two level tables share; ``packed`` is (nbytes, LANES)."""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel

_32 = np.float32(32.0)
_127 = np.float32(127.0)


@kernel
def pack_h16(codes, at, packed):
    """4-bit codes (256, LANES): byte ``16 i + t`` holds weights ``32 i + t`` (low nibble) and ``32 i + 16 + t``."""
    for i in range(SUPER // 32):
        for t in range(16):
            for k in range(LANES):
                packed[at + 16 * i + t, k] = np.uint8(codes[32 * i + t, k] | codes[32 * i + 16 + t, k] << 4)


@inlined
def pack_tables(shifted, at, packed):
    """Bit j % 8 of byte j // 8: block j takes the shifted table."""
    for j in range(shifted.shape[0]):
        for k in range(LANES):
            bit = np.uint8((1 if shifted[j, k] != np.float32(0.0) else 0) << (j % 8))
            packed[at + j // 8, k] = bit if j % 8 == 0 else packed[at + j // 8, k] | bit


@inlined
def pack_six_bit_scales(levels, packed):
    """The scales ``level + 32`` of 16 blocks: bytes 4 to 7 the upper two bits of four, bytes 8 to 15 nibbles of two."""
    for j in range(16):
        for k in range(LANES):
            code = np.uint8(np.int32(levels[j, k] + _32))
            high, low = np.uint8((code >> 4) << (2 * (j % 4))), np.uint8((code & 15) << (4 * (j % 2)))
            packed[4 + j // 4, k] = high if j % 4 == 0 else packed[4 + j // 4, k] | high
            packed[8 + j // 2, k] = low if j % 2 == 0 else packed[8 + j // 2, k] | low


@inlined
def six_bit_scale(data, at, j):
    """Scale of block j of the super-block at ``at``, as ``pack_six_bit_scales`` stores it."""
    high = (np.int32(data[at + 4 + j // 4]) >> (2 * (j % 4))) & 3
    low = (np.int32(data[at + 8 + j // 2]) >> (4 * (j % 2))) & 15
    return np.float32((low | high << 4) - 32)


@inlined
def pack_odd_scales(levels, shifted, packed):
    """Bytes 0 to 7: the odd scale of a block plus 127, which leaves bit 0 for the shifted table."""
    for j in range(levels.shape[0]):
        for k in range(LANES):
            packed[j, k] = np.uint8(np.int32(levels[j, k] + _127 + shifted[j, k]))


@inlined
def odd_scale(byte):
    """Scale of a block from the byte that ``pack_odd_scales`` stores."""
    return np.float32((np.int32(byte) & 254) - 127)
