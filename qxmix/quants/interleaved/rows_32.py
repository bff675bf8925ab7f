"""Interleaved types of blocks of 32 weights: Q4_0_R8, Q5_0_R4, Q6_0_R4, Q8_0_R8, IQ4_NL_R4, MXFP4_R8 and BF16_R16.

Units, sizes in bytes; the plain blocks are drawn in the files of their types::

    Q4_0_R8    d 16 | qs 128: 4 bytes of each row in turn         MXFP4_R8   e 8 | qs 128: the same
    Q8_0_R8    d 16 | qs 256: 4 bytes of each row in turn         IQ4_NL_R4  d 8 | qs 64: nibbles
    Q5_0_R4    d 8 | qh 16: fifth bits | qs 64: nibbles
    Q6_0_R4    d 8 | qh 32: upper two bits | qs 64: nibbles       BF16_R16   two weights of each row in turn

``d`` holds the scales of all rows, nibbles and bits are fields of ``bit_fields.quads``.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.iq4_nl import CODECS as IQ4_NL
from qxmix.quants.block32.mxfp4 import CODECS as MXFP4
from qxmix.quants.block32.q4_0 import CODECS as Q4_0
from qxmix.quants.block32.q5_0 import CODECS as Q5_0
from qxmix.quants.block32.q6_0 import CODECS as Q6_0
from qxmix.quants.block32.q8_0 import CODECS as Q8_0
from qxmix.quants.codec import Codec
from qxmix.quants.common.reinterpret import flat_as
from qxmix.quants.floats import CODECS as FLOATS
from qxmix.quants.interleaved.bit_fields import NIBBLES, PAIRS, nibbles_16, quads, runs, span
from qxmix.quants.interleaved.interleave import interleaved, interleaved_decoder
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.jit import kernel

_E = np.arange(32)
_FIFTH = ((0, 16, 4, 20, 8, 24, 12, 28),)

_UPPER_Q6_0 = 8 * (2 + _E % 8)[:, None] + (4 * (_E % 16 // 8) + 2 * (_E // 16))[:, None] + np.arange(2)
"""qh of Q6_0: byte ``t % 8``, whose low nibble is for t < 8, has the upper bits of weights t and t + 16."""


def _bytes_r8(scale_nbytes: int, n_bytes: int) -> Unit:
    """Scales, then four bytes of each of eight rows in turn."""
    return Unit(
        8,
        scale_nbytes + n_bytes,
        (
            (span(0, scale_nbytes), runs(0, 8, scale_nbytes, scale_nbytes)),
            (span(scale_nbytes, n_bytes), runs(8 * scale_nbytes, 8, n_bytes, 4)),
        ),
    )


_SCALES_R4 = (span(0, 2), runs(0, 4, 2, 2))
_IQ4_NL_R4 = Unit(4, 18, (_SCALES_R4, (nibbles_16(2, 32), quads(8, 4, 32, 4, NIBBLES))))
_Q5_0_R4 = Unit(
    4,
    22,
    (
        _SCALES_R4,
        ((16 + _E)[:, None], quads(8, 4, 32, 1, _FIFTH)),
        (nibbles_16(6, 32), quads(24, 4, 32, 4, NIBBLES)),
    ),
)
_Q6_0_R4 = Unit(
    4, 26, (_SCALES_R4, (_UPPER_Q6_0, quads(8, 4, 32, 2, PAIRS)), (nibbles_16(10, 32), quads(40, 4, 32, 4, NIBBLES)))
)


_ROWS_BF16 = 16
_SPAN = 64
"""Columns cut at once: rows often lie a multiple of 4 KB apart, and would share the same few lines of the cache."""
_PAIRS = _SPAN // 2 + 4
"""Places for two columns that are kept for a row at once."""


@kernel
def _encode_bf16_r16(rows, _columns, packed, _search):
    """BF16 as ik_llama.cpp makes it for BF16_R16: the lower half of a float32 is cut off, not rounded."""
    bits, out = flat_as(rows, np.uint32), flat_as(packed, np.uint32)
    cut = np.empty((_ROWS_BF16, 2 * _PAIRS), np.uint16)
    pairs, n_cols = flat_as(cut, np.uint32), rows.shape[1]
    for first in range(0, rows.shape[0], _ROWS_BF16):
        for c in range(0, n_cols, _SPAN):
            n = np.uint64(min(_SPAN, n_cols - c))
            for k in range(_ROWS_BF16):
                of = np.uint64((first + k) * n_cols + c)
                for e in range(n):
                    cut[k, e] = np.uint16(bits[of + e] >> np.uint32(16))
            for i in range(n // np.uint64(2)):
                to = np.uint64((first * n_cols + _ROWS_BF16 * c) // 2) + np.uint64(_ROWS_BF16) * i
                for k in range(np.uint64(_ROWS_BF16)):
                    out[to + k] = pairs[k * np.uint64(_PAIRS) + i]


CODECS = {
    "Q4_0_R8": interleaved(Q4_0["Q4_0"], _bytes_r8(2, 16), clean=32),
    "Q5_0_R4": interleaved(Q5_0["Q5_0"], _Q5_0_R4),
    "Q6_0_R4": interleaved(Q6_0["Q6_0"], _Q6_0_R4, clean=32),
    "Q8_0_R8": interleaved(Q8_0["Q8_0"], _bytes_r8(2, 32)),
    "IQ4_NL_R4": interleaved(IQ4_NL["IQ4_NL"], _IQ4_NL_R4, clean=32),
    "MXFP4_R8": interleaved(MXFP4["MXFP4"], _bytes_r8(1, 16)),
    "BF16_R16": Codec(
        decode=interleaved_decoder(
            FLOATS["BF16"].decode, Unit(_ROWS_BF16, 4, ((span(0, 4), runs(0, _ROWS_BF16, 4, 4)),))
        ),
        encode=_encode_bf16_r16,
    ),
}
