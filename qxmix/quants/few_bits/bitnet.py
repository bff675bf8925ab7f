"""IQ1_BN, IQ2_BN and IQ2_BN_R4: weights -1, 0, 1 times one scale per row, exact for ternary rows.  ik_llama.cpp only.

Layouts, blocks of 64 weights behind the scale of the row::

    IQ1_BN  row: d f16, then blocks of 13 bytes        IQ2_BN  row: d f32, then blocks of 16 bytes
    +------------------------------+-------------+     +----------------------------------------+
    | byte 3 i + m: weights        | byte 12:    |     | byte t: weights t, t + 16, t + 32,     |
    | 16 i + 5 m .. + 4, five      | weights 15, |     | t + 48 from bit 0 up, two bits each    |
    | base-3 digits                | 31, 47, 63  |     +----------------------------------------+
    +------------------------------+-------------+
    digits, first weight times 1, then 3, ...: a byte holds their number n < 243 as ceil(256 n / 243)
    weight = d * (digit - 1)

    IQ2_BN_R4  4 d f32 | unit of 64 weights: bit_fields' PAIRS

d is the largest magnitude of the row; what is below half of it is 0.  Source: ``IQ1BNQuantizer`` of ik_llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.e2m1 import largest_bits
from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.reinterpret import flattened, float_of
from qxmix.quants.common.row_scale import row_decoder, store_float
from qxmix.quants.interleaved.bit_fields import PAIRS, quads
from qxmix.quants.interleaved.interleave import interleaved
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.contracts import PutRow

BLOCK = 64
ONE_NBYTES, TWO_NBYTES = 13, 16
_0, _HALF = np.float32(0.0), np.float32(0.5)
_POWERS = np.array([81, 27, 9, 3, 1], dtype=np.uint8)


@inlined
def _digits(flat, of, half, digit):
    """0, 1 or 2 for each weight of a block."""
    for e in range(BLOCK):
        x = flat[of + e]
        digit[e] = np.uint8(1) if abs(x) < half else np.uint8(0 if x < _0 else 2)


@inlined
def _in_byte(number):
    return np.uint8((np.uint32(256) * number + np.uint32(242)) // np.uint32(243))


@inlined
def _digit_of(byte, place):
    """The digit of weight ``place``: times the power that lifts it to the top, it overflows from 3 n / 256."""
    rest = np.uint32(np.uint8(byte * _POWERS[place]))
    return np.float32(np.int32((np.uint32(3) * rest) >> np.uint32(8)) - 1)


@inlined
def _pack_1(digit, out, at):
    last, power = np.uint32(0), np.uint32(1)
    for i in range(4):
        for m in range(3):
            number = np.uint32(0)
            for j in range(4, -1, -1):
                number = np.uint32(number * np.uint32(3) + np.uint32(digit[16 * i + 5 * m + j]))
            out[at + 3 * i + m] = _in_byte(number)
        last = np.uint32(last + power * np.uint32(digit[16 * i + 15]))
        power = np.uint32(power * np.uint32(3))
    out[at + 12] = _in_byte(last)


@inlined
def _put_1(data, at, d, x, to):
    for i in range(4):
        for m in range(3):
            for j in range(5):
                x[to + 16 * i + 5 * m + j] = d * _digit_of(data[at + 3 * i + m], j)
        x[to + 16 * i + 15] = d * _digit_of(data[at + 12], i)


@inlined
def _pack_2(digit, out, at):
    for t in range(TWO_NBYTES):
        out[at + t] = digit[t] | digit[t + 16] << 2 | digit[t + 32] << 4 | digit[t + 48] << 6


@inlined
def _put_2(data, at, d, x, to):
    for t in range(TWO_NBYTES):
        for i in range(4):
            x[to + 16 * i + t] = d * np.float32(((np.int32(data[at + t]) >> (2 * i)) & 3) - 1)


def _codec(nbytes: int, pack: Callable[..., None], put: PutRow, *, half: bool) -> Codec:
    """The codec of rows that start with a scale, a half or a float32, then blocks of ``nbytes`` bytes."""

    @kernel
    def encode(rows, _columns, packed, _search):
        flat, out, n = flattened(rows), flattened(packed), rows.shape[1]
        digit = np.empty(BLOCK, np.uint8)
        at = 0
        for r in range(rows.shape[0]):
            d = float_of(largest_bits(flat, r * n, n))
            if half:
                store_half(out, at, d)
            else:
                store_float(out, at, d)
            at += 2 if half else 4
            for of in range(r * n, r * n + n, BLOCK):
                _digits(flat, of, _HALF * d, digit)
                pack(digit, out, at)
                at += nbytes

    return Codec(decode=row_decoder(nbytes, put, half=half, block=BLOCK), encode=encode)


_E = np.arange(BLOCK)
_IQ2_BN = _codec(TWO_NBYTES, _pack_2, _put_2, half=False)
_PLAIN_2 = (8 * (_E % 16) + 2 * (_E // 16))[:, None] + np.arange(2)

CODECS = {
    "IQ1_BN": _codec(ONE_NBYTES, _pack_1, _put_1, half=True),
    "IQ2_BN": _IQ2_BN,
    "IQ2_BN_R4": interleaved(_IQ2_BN, Unit(4, TWO_NBYTES, ((_PLAIN_2, quads(0, 4, BLOCK, 2, PAIRS)),), meta_nbytes=4)),
}
