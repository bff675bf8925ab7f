"""Signed bytes: Q8_KV and Q8_KV_R8 with one scale per row, Q8_K_R8 with one per 256 weights.  ik_llama.cpp only.

Layouts; rows of Q8_KV, and the plain rows that the other two interleave::

    Q8_KV    0       4                 8                      8 + n       Q8_K    0       2                 258
    row of n +-------+-----------------+----------------------+           256     +-------+-----------------+
    weights  | d f32 | sum of qs, i32  | qs: n signed bytes   |           weights | d f16 | qs: signed byte |
             +-------+-----------------+----------------------+                   +-------+-----------------+

    Q8_KV_R8  8 d f32, no sums | unit of 32 weights: 4 bytes of each row in turn
    Q8_K_R8   unit: d 16 | qs 2048: 4 bytes of each row in turn
    weight = d * qs

Both round half to even, Q8_KV after multiplying with ``1 / d``, Q8_K with ``127 / largest``.  Magnitudes so small that
these overflow (below 4e-37) are taken for zero; the reference makes -128 of them.

Source: ``iqk_quantize_row_q8_KV`` and ``iqk_quantize_row_q8_K_T<1>`` of ik_llama.cpp, as they are for AVX2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.e2m1 import largest_bits
from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.interleaved.bit_fields import runs, span
from qxmix.quants.interleaved.interleave import interleaved
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.codec import Decoder, Encoder

SUPER = 256
Q8_K_NBYTES = 258

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_127 = np.float32(127.0)
_MAGIC = np.float32(12582912.0)
_MAGIC_BITS = np.uint32(0x4B400000)


@inlined
def _round(flat, of, n, inverse, packed, at):
    """Store ``n`` weights times ``inverse`` as signed bytes; returns their sum.

    Adding 1.5 * 2 ** 23 rounds to whole numbers, half to even, and leaves them in the low bits of the float.  All sums
    are modulo 2 ** 32; with 64 bits, as numba would have them, this takes 1.4 times as long.
    """
    total = np.uint32(0)
    for e in range(np.uint64(n)):
        bits = np.float32(flat[np.uint64(of) + e] * inverse + _MAGIC).view(np.uint32)
        packed[np.uint64(at) + e] = np.uint8(bits)
        total = np.uint32(total + bits)
    return np.uint32(total - np.uint32(n) * _MAGIC_BITS)


def _encode_rows(meta_nbytes: int) -> Encoder:
    """Build the encoder of rows that start with the scale and, if ``meta_nbytes`` is 8, the sum."""

    @kernel
    def encode(rows, _columns, packed, _search):
        flat, out = rows.ravel(), packed.ravel()
        n = rows.shape[1]
        for r in range(rows.shape[0]):
            at = r * (meta_nbytes + n)
            d = np.uint32(largest_bits(flat, r * n, n)).view(np.float32) / _127
            inverse = _1 / d
            if not inverse < np.float32(np.inf):
                d, inverse = _0, _0
            total = _round(flat, r * n, n, inverse, out, at + meta_nbytes)
            bits = np.float32(d).view(np.uint32)
            for i in range(4):
                out[at + i] = np.uint8((bits >> np.uint32(8 * i)) & np.uint32(255))
                if meta_nbytes > 4:  # noqa: PLR2004
                    out[at + 4 + i] = np.uint8((total >> np.uint32(8 * i)) & np.uint32(255))

    return encode


def _decode_rows(meta_nbytes: int) -> Decoder:
    @kernel
    def decode(packed, rows):
        n = rows.shape[1]
        for r in range(rows.shape[0]):
            data = packed[r].view(np.int8)
            bits = np.uint32(0)
            for i in range(4):
                bits |= np.uint32(packed[r, i]) << np.uint32(8 * i)
            d = np.uint32(bits).view(np.float32)
            for e in range(n):
                rows[r, e] = d * np.float32(data[meta_nbytes + e])

    return decode


@kernel
def _encode_q8_k(rows, _columns, packed, _search):
    flat, out = rows.ravel(), packed.ravel()
    for block in range(rows.size // SUPER):
        at, of = block * Q8_K_NBYTES, block * SUPER
        largest = np.uint32(largest_bits(flat, of, SUPER)).view(np.float32)
        inverse = _127 / largest
        if not inverse < np.float32(np.inf):
            largest, inverse = _0, _0
        store_half(out, at, largest / _127)
        _round(flat, of, SUPER, inverse, out, at + 2)


@kernel
def _decode_q8_k(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    signed = data.view(np.int8)
    for block in range(rows.size // SUPER):
        at, to = block * Q8_K_NBYTES, block * SUPER
        d = load_half(data, at)
        for e in range(SUPER):
            flat[to + e] = d * np.float32(signed[at + 2 + e])


_Q8_KV = Codec(decode=_decode_rows(8), encode=_encode_rows(8))
_WITHOUT_SUM = Codec(decode=_decode_rows(4), encode=_encode_rows(4))
_Q8_K = Codec(decode=_decode_q8_k, encode=_encode_q8_k)
_Q8_KV_R8 = Unit(8, 32, ((span(0, 32), runs(0, 8, 32, 4)),), meta_nbytes=4)
_Q8_K_R8 = Unit(8, 258, ((span(0, 2), runs(0, 8, 2, 2)), (span(2, 256), runs(16, 8, 256, 4))))

CODECS = {
    "Q8_KV": _Q8_KV,
    "Q8_KV_R8": interleaved(_WITHOUT_SUM, _Q8_KV_R8),
    "Q8_K_R8": interleaved(_Q8_K, _Q8_K_R8),
}
