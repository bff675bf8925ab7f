"""TQ1_0, TQ2_0 and Q2_0: one scale, levels -1, 0, 1, for weights that were trained to these.

The scale is the largest magnitude; a weight of at least half of it becomes 1 or -1.  All three decode
``d * (digit - 1)`` with digits 0, 1, 2 (and 3 in the two-bit fields, which no encoder writes).

TQ1_0, 256 weights, 54 bytes; five digits a byte, the first the highest power of three::

    0                           32                             48                       52      54
    +---------------------------+------------------------------+------------------------+-------+
    | byte m: digits of weights | byte m: digits of weights    | byte m: 4 digits,      | d f16 |
    | m, m + 32, ..., m + 128   | 160 + m, + 16, ..., + 64     | 240 + m, + 4, + 8, +12 |       |
    +---------------------------+------------------------------+------------------------+-------+
    A byte holds its base-3 number n < 243 as ceil(256 n / 243): times 3, the digit is what overflows.

TQ2_0, 256 weights, 66 bytes (qs: field T128 of ``superblock``)   Q2_0, 64 weights, 18 bytes::

    0                   64      66                                0       2                            18
    +-------------------+-------+                                 +-------+----------------------------+
    | qs: T128, 2 bits  | d f16 |                                 | d f16 | byte t: weights 4 t .. + 3 |
    +-------------------+-------+                                 +-------+----------------------------+

Source: the ``quantize_row_..._ref`` of llama.cpp; ik_llama.cpp does not have these types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.e2m1 import largest_bits
from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.common.reinterpret import flattened, float_of
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable


_HALF = np.float32(0.5)
_TINY = np.float32(1e-38)
"""Below this the inverse of a scale is infinite, and the scale is 0 as a half anyway."""

# Of TQ1_0: first weight, distance of the digits of a byte, number of bytes and of digits, first byte
_FIVES = ((0, 32, 32, 5, 0), (160, 16, 16, 5, 32), (240, 4, 4, 4, 48))


@inlined
def _digit(y):
    """0, 1 or 2: ``roundf`` of y in [-1, 1], plus one."""
    return np.uint8(np.uint8(y > -_HALF) + np.uint8(y >= _HALF))


@inlined
def _pack_threes(x, out):
    for first, stride, n_bytes, n_digits, at in _FIVES:
        for m in range(n_bytes):
            number = np.uint32(0)
            for i in range(5):
                digit = x[first + i * stride + m] if i < n_digits else np.uint8(0)
                number = np.uint32(number * np.uint32(3) + digit)
            out[at + m] = np.uint8((number * np.uint32(256) + np.uint32(242)) // np.uint32(243))


@inlined
def _unpack_threes(data, x):
    for first, stride, n_bytes, n_digits, at in _FIVES:
        for m in range(n_bytes):
            rest = np.uint32(data[at + m])
            for i in range(n_digits):
                x[first + i * stride + m] = np.uint8(np.uint32(rest * np.uint32(3)) >> np.uint32(8))
                rest = np.uint32(rest * np.uint32(3)) & np.uint32(255)


@inlined
def _pack_planes(x, out):
    for g in range(2):
        for t in range(32):
            e = 128 * g + t
            out[32 * g + t] = np.uint8(x[e] | x[e + 32] << 2 | x[e + 64] << 4 | x[e + 96] << 6)


@inlined
def _unpack_planes(data, x):
    for g in range(2):
        for t in range(32):
            for i in range(4):
                x[128 * g + 32 * i + t] = np.uint8((data[32 * g + t] >> np.uint8(2 * i)) & np.uint8(3))


@inlined
def _pack_fours(x, out):
    for t in range(16):
        out[t] = np.uint8(x[4 * t] | x[4 * t + 1] << 2 | x[4 * t + 2] << 4 | x[4 * t + 3] << 6)


@inlined
def _unpack_fours(data, x):
    for t in range(16):
        for i in range(4):
            x[4 * t + i] = np.uint8((data[t] >> np.uint8(2 * i)) & np.uint8(3))


def _codec(n: int, nbytes: int, scale_at: int, pack: Callable[..., None], unpack: Callable[..., None]) -> Codec:
    """The codec of blocks of ``n`` weights in ``nbytes`` bytes, two of them the scale at ``scale_at``."""
    digits_at = 2 if scale_at == 0 else 0

    @kernel
    def encode(rows, _columns, packed, _search):
        flat, out = flattened(rows), flattened(packed)
        digits = np.empty(n, np.uint8)
        for block in range(rows.size // n):
            at, x = block * nbytes, flat[block * n : (block + 1) * n]
            d = float_of(largest_bits(flat, block * n, n))
            inverse = np.float32(1.0) / d if d > _TINY else np.float32(0.0)
            for e in range(n):
                digits[e] = _digit(x[e] * inverse)
            store_half(out, at + scale_at, d)
            pack(digits, out[at + digits_at : at + digits_at + nbytes - 2])

    @kernel
    def decode(packed, rows):
        data, flat = flattened(packed), flattened(rows)
        digits = np.empty(n, np.uint8)
        for block in range(rows.size // n):
            at, x = block * nbytes, flat[block * n : (block + 1) * n]
            d = load_half(data, at + scale_at)
            unpack(data[at + digits_at : at + digits_at + nbytes - 2], digits)
            for e in range(n):
                x[e] = d * np.float32(np.int32(digits[e]) - 1)

    return Codec(decode=decode, encode=encode)


CODECS = {
    "TQ1_0": _codec(256, 54, 52, _pack_threes, _unpack_threes),
    "TQ2_0": _codec(256, 66, 64, _pack_planes, _unpack_planes),
    "Q2_0": _codec(64, 18, 0, _pack_fours, _unpack_fours),
}
