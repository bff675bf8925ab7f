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
from qxmix.quants.block32.q8_0 import signed_decoder
from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.reinterpret import bits_of, flattened, float_of
from qxmix.quants.common.row_scale import load_float
from qxmix.quants.common.simd import WIDTH, load, splat, store, store_word
from qxmix.quants.common.simd_few import bytes_of_bits, store_low_bytes
from qxmix.quants.interleaved.bit_fields import runs, span
from qxmix.quants.interleaved.interleave import interleaved_decoder
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.codec import Decoder

SUPER = 256
Q8_K_NBYTES = 258
ROWS = 8
"""Rows of a group of the interleaved types."""

_0, _1, _127 = np.float32(0.0), np.float32(1.0), np.float32(127.0)
_MAGIC = np.float32(12582912.0)
_EXACT = 1 << 20
"""Weights of a row whose sum, lane by lane, is below 2 ** 24: 65,536 of 127 each in 16 lanes."""


@inlined
def _round(flat, of, n, inverse, packed, at, sums):
    """Store ``n`` weights times ``inverse`` as signed bytes; returns their sum modulo 2 ** 32.

    Adding 1.5 * 2 ** 23 rounds to whole numbers, half to even, and leaves them in the low bits of the float.  In
    floats, the sum of a lane is exact for ``_EXACT`` weights.  ``sums`` (WIDTH,) is room for the lanes.
    """
    total = np.int64(0)
    for first in range(0, n, _EXACT):
        lanes = splat(_0)
        for e in range(first, min(first + _EXACT, n), WIDTH):
            rounded = load(flat, of + e) * inverse + _MAGIC
            store_low_bytes(packed, at + e, rounded)
            lanes = lanes + (rounded - _MAGIC)
        store(sums, 0, lanes)
        for k in range(WIDTH):
            total += np.int64(sums[k])
    return np.uint32(total)


@inlined
def _scale_and_inverse(flat, of, n):
    """``d`` of ``n`` weights that one scale per row serves, and ``1 / d``."""
    d = float_of(largest_bits(flat, of, n)) / _127
    inverse = _1 / d
    return (d, inverse) if inverse < np.float32(np.inf) else (_0, _0)


@kernel
def _encode_row(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    n, sums = rows.shape[1], np.empty(WIDTH, np.float32)
    for r in range(rows.shape[0]):
        at = r * packed.shape[1]
        d, inverse = _scale_and_inverse(flat, r * n, n)
        store_word(out, at, bits_of(d))
        store_word(out, at + 4, _round(flat, r * n, n, inverse, out, at + 8, sums))


@inlined
def _round_rows(flat, of, n_cols, n, inverse, out, at):
    """Store ``n`` weights of each of the rows that begin at ``of``, times ``inverse`` (ROWS,), by fours in turn.

    A vector goes to its places at once: rounded into a plain row first and moved by the words of ``interleave``, it
    took 1.8 times as long, more than ik_llama.cpp.
    """
    for e in range(0, n, 2 * WIDTH):
        for k in range(ROWS):
            to = at + ROWS * e + 4 * k
            for half in range(0, 2 * WIDTH, WIDTH):
                words = bytes_of_bits(load(flat, of + k * n_cols + e + half) * inverse[k] + _MAGIC)
                for i in range(WIDTH // 4):
                    store_word(out, to + ROWS * (half + 4 * i), words[i])


@kernel
def _encode_q8_kv_r8(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    n, inverse = rows.shape[1], np.empty(ROWS, np.float32)
    for first in range(0, rows.shape[0], ROWS):
        at = first * packed.shape[1]
        for k in range(ROWS):
            d, inverse[k] = _scale_and_inverse(flat, (first + k) * n, n)
            store_word(out, at + 4 * k, bits_of(d))
        _round_rows(flat, first * n, n, n, inverse, out, at + 4 * ROWS)


@kernel
def _encode_q8_k_r8(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    n, inverse = rows.shape[1], np.empty(ROWS, np.float32)
    for first in range(0, rows.shape[0], ROWS):
        for block in range(n // SUPER):
            at, of = first * packed.shape[1] + block * ROWS * Q8_K_NBYTES, first * n + block * SUPER
            for k in range(ROWS):
                largest = float_of(largest_bits(flat, of + k * n, SUPER))
                inverse[k] = _127 / largest
                if not inverse[k] < np.float32(np.inf):
                    largest, inverse[k] = _0, _0
                store_half(out, at + 2 * k, largest / _127)
            _round_rows(flat, of, n, SUPER, inverse, out, at + 2 * ROWS)


def _decode_rows(meta_nbytes: int) -> Decoder:
    @kernel
    def decode(packed, rows):
        n = rows.shape[1]
        for r in range(rows.shape[0]):
            data, d = packed[r], load_float(packed[r], 0)
            for e in range(n):
                rows[r, e] = d * np.float32(np.int8(data[meta_nbytes + e]))

    return decode


_Q8_KV_R8 = Unit(ROWS, 32, ((span(0, 32), runs(0, ROWS, 32, 4)),), meta_nbytes=4)
_Q8_K_R8 = Unit(ROWS, 258, ((span(0, 2), runs(0, ROWS, 2, 2)), (span(2, 256), runs(2 * ROWS, ROWS, 256, 4))))

CODECS = {
    "Q8_KV": Codec(decode=_decode_rows(8), encode=_encode_row),
    "Q8_KV_R8": Codec(decode=interleaved_decoder(_decode_rows(4), _Q8_KV_R8), encode=_encode_q8_kv_r8),
    "Q8_K_R8": Codec(decode=interleaved_decoder(signed_decoder(SUPER), _Q8_K_R8), encode=_encode_q8_k_r8),
}
