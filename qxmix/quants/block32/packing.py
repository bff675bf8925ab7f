"""Bit fields that the types of 32-weight blocks share; ``low`` are the codes of weights 0 .. 15, ``high`` of 16 .. 31.

Codes come as vectors of whole float32: sums of fields that do not overlap are exact, and one conversion makes bytes.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.simd import lane_bits, splat, store_bytes, where
from qxmix.quants.jit import inlined

_0 = np.float32(0.0)
_16 = np.float32(16.0)


@inlined
def store_nibbles(packed, at, low, high):
    """Codes below 16: byte t has weight t in the low, weight t + 16 in the high nibble."""
    store_bytes(packed, at, low + _16 * high)


@inlined
def _without(code, mask):
    """The code less 16 in the lanes of the mask."""
    return code - where(mask, splat(_16), splat(_0))


@inlined
def store_five_bits(packed, at, low, high):
    """Codes below 32: the fifth bits of all weights in 4 bytes, then the nibbles."""
    fifth_low, fifth_high = low >= _16, high >= _16
    fifth = lane_bits(fifth_low) | lane_bits(fifth_high) << 16
    for i in range(4):
        packed[at + i] = np.uint8((fifth >> (8 * i)) & 255)
    store_nibbles(packed, at + 4, _without(low, fifth_low), _without(high, fifth_high))
