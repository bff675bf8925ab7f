"""The decoder around the blocks of 32 weights: a scale, perhaps a minimum, and fields that hold two codes a byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.encoder import BLOCK
from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import load_word
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Decoder
    from qxmix.quants.common.levels import Levels


def nibbles(at: int) -> Callable[..., tuple[int, int]]:
    """Codes of weights t and t + 16 of the block at ``data[block:]``, as ``store_nibbles`` stores them at ``at``."""

    @inlined
    def codes(data, block, t):
        byte = np.int32(data[block + at + t])
        return byte & 15, byte >> 4

    return codes


def five_bits(at: int) -> Callable[..., tuple[int, int]]:
    """As ``nibbles``, of what ``store_five_bits`` stores at ``at``.

    The fifth bits of all are one word, so that LLVM makes a loop in vectors of it: of single bytes of them it made code
    for each weight, which took four times as long.
    """

    @inlined
    def codes(data, block, t):
        byte = np.int32(data[block + at + 4 + t])
        fifth = load_word(data, block + at) >> np.uint32(t)
        low, high = np.int32(fifth & np.uint32(1)), np.int32((fifth >> np.uint32(16)) & np.uint32(1))
        return byte & 15 | low << 4, byte >> 4 | high << 4

    return codes


def block_decoder(
    block_nbytes: int, codes: Callable[..., tuple[int, int]], value: Callable[..., np.float32]
) -> Decoder:
    """Build the decoder of blocks of ``block_nbytes`` bytes that start with a half.

    ``codes(data, block, t)`` gives the codes of weights t and t + 16 of the block at ``data[block:]``, and
    ``value(d, data, block, code)`` the weight of a code, ``d`` being the half.
    """

    @kernel
    def decode(packed, rows):
        data, flat = flattened(packed), flattened(rows)
        for block in range(rows.size // BLOCK):
            at, to = block * block_nbytes, block * BLOCK
            d = load_half(data, at)
            for t in range(BLOCK // 2):
                low, high = codes(data, at, t)
                flat[to + t] = value(d, data, at, low)
                flat[to + t + BLOCK // 2] = value(d, data, at, high)

    return decode


def linear_value(nmax: int) -> Callable[..., np.float32]:
    """Weights of codes that are levels plus ``nmax``."""

    @inlined
    def value(d, _data, _block, code):
        return d * np.float32(code - nmax)

    return value


@inlined
def affine_value(d, data, block, code):
    """Weights of codes above the minimum, the half behind the first."""
    return d * np.float32(code) + load_half(data, block + 2)


def table_value(levels: Levels) -> Callable[..., np.float32]:
    """Weights of codes that are indices of levels."""

    @inlined
    def value(d, _data, _block, code):
        return d * levels[code]

    return value
