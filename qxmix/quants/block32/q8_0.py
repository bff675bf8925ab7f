"""Q8_0: 32 weights, one scale, 8-bit levels -127..127.

Layout of a block, 34 bytes::

    0       2                        34
    +-------+------------------------+
    | d f16 | qs: 32 signed bytes    |
    +-------+------------------------+
    weight = d * qs

Source: ``block_q8_0`` and ``quantize_row_q8_0_ref`` of ggml; both engines and the gguf package write the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.encoder import BLOCK
from qxmix.quants.block32.refine import LATTICES, refined
from qxmix.quants.block32.refine_scale import refine_scale
from qxmix.quants.codec import Codec
from qxmix.quants.common.numerics import finite_or_0, load_half, store_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import WIDTH, store_bytes
from qxmix.quants.feedback.block32 import whole_range_feedback
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.codec import Decoder

BLOCK_NBYTES = 34

_0, _1, _HALF, _127 = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(127.0)


@kernel
def _encode(rows, _columns, packed, _search):
    flat, out = flattened(rows), flattened(packed)
    for block in range(rows.size // BLOCK):
        at, of = block * BLOCK_NBYTES, block * BLOCK
        amax = _0
        for e in range(BLOCK):
            amax = max(amax, abs(flat[of + e]))
        d = amax / _127
        inverse = finite_or_0(_1 / d)
        store_half(out, at, d)
        for e in range(BLOCK):
            # roundf: half away from zero.  |y| <= 127.5, so truncating y +- 0.5 would be wrong only where the
            # addition itself rounds up: for the float just below 0.5.  Splitting off the whole part is exact.
            y = flat[of + e] * inverse
            whole = np.trunc(y)
            away = _1 if abs(y - whole) >= _HALF else _0
            out[at + 2 + e] = np.uint8(np.int32(whole + (away if y > _0 else -away)))


@inlined
def _pack(packed, at, scale, _minimum, low, high):
    store_half(packed, at, scale)
    store_bytes(packed, at + 2, low - _127)
    store_bytes(packed, at + 2 + WIDTH, high - _127)


def signed_decoder(n: int) -> Decoder:
    """Build the decoder of blocks of a half and ``n`` signed bytes."""

    @kernel
    def decode(packed, rows):
        data, flat = flattened(packed), flattened(rows)
        for block in range(rows.size // n):
            at, to = block * (2 + n), block * n
            d = load_half(data, at)
            for e in range(n):
                flat[to + e] = d * np.float32(np.int8(data[at + 2 + e]))

    return decode


CODECS = {
    "Q8_0": Codec(
        decode=signed_decoder(BLOCK),
        encode=refined(_encode, refine_scale(127, BLOCK_NBYTES, _pack)),
        searches=LATTICES,
        version=2,
        feedback=whole_range_feedback(127, BLOCK_NBYTES, _pack),
    ),
}
