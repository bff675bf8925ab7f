"""Interleaved types with two level tables: IQ2_K_R4, IQ3_K_R4, IQ4_K_R4, IQ5_K_R4, IQ4_KS_R4 and IQ5_KS_R4.

Units, sizes in bytes; the plain super-blocks are drawn in the files of their types::

    IQ2_K_R4   d 8 | extra 8 | scales 32: nibbles                                       | qs 256: pairs
    IQ3_K_R4   d 8 | extra 8 | scales: signs 8, nibbles 32           | qs 256: pairs    | qh 128: singles
    IQ4_K_R4   d 8 | extra 8 | scales: upper 2 bits 16, nibbles 32   | qs 512: nibbles
    IQ5_K_R4   d 8 | extra 8 | scales: upper 2 bits 16, nibbles 32   | qs 512: nibbles  | qh 128: fifth bits
    IQ4_KS_R4  4 d f32 before the units | scales 32: bytes           | qs 512: nibbles
    IQ5_KS_R4  4 d f32 before the units | scales 32: bytes           | qs 512: nibbles  | qh 128: fifth bits

Byte k of extra has the bits of the even blocks of row k, byte 4 + k those of the odd ones.  Nibbles, pairs and singles
of weights are fields of ``bit_fields.quads``, bits of a scale those of its number in ``counted``.  The plain encoders
clean their importances themselves.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.interleaved.bit_fields import (
    NIBBLES,
    PAIRS,
    SINGLES,
    Bits,
    Starts,
    counted,
    nibbles_16,
    nibbles_32,
    pairs_128,
    planes_32,
    quads,
    runs,
    span,
    strided,
)
from qxmix.quants.interleaved.interleave import interleaved
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.level.iq2_k import CODECS as IQ2_K
from qxmix.quants.level.iq3_k import CODECS as IQ3_K
from qxmix.quants.level.iq4_k import CODECS as IQ4_K
from qxmix.quants.level.iq4_ks import CODECS as IQ4_KS
from qxmix.quants.level.iq5_k import CODECS as IQ5_K
from qxmix.quants.level.iq5_ks import CODECS as IQ5_KS

_FIFTH: Starts = ((0, 8, 16, 24, 4, 12, 20, 28),)
_J = np.arange(16)
_N = counted(4, 16, halves=True)
_EXTRA = 8 * (8 + 4 * (_J % 2) + np.arange(4)[:, None]) + _J // 2


def _head() -> tuple[tuple[Bits, Bits], ...]:
    """d, and which blocks take the shifted table."""
    return (span(0, 2), runs(0, 4, 2, 2)), ((16 + _J)[:, None], _EXTRA[..., None])


def _nibbles(plain_at: int, at: int) -> tuple[Bits, Bits]:
    """The low 4 bits of 16 scales, plain ones two to a byte."""
    return (8 * plain_at + 4 * _J)[:, None] + np.arange(4), strided(at, _N, 32, 4)


def _upper() -> tuple[Bits, Bits]:
    """The high 2 bits of 16 scales, plain ones four to a byte."""
    return (32 + 2 * _J)[:, None] + np.arange(2), strided(16, _N, 16, 2)


_IQ2_K_R4 = Unit(4, 76, (*_head(), _nibbles(4, 16), (pairs_128(12), quads(48, 4, 256, 2, PAIRS))))
_IQ3_K_R4 = Unit(
    4,
    110,
    (
        *_head(),
        ((32 + _J)[:, None], strided(16, _N, 8, 1)),
        _nibbles(6, 24),
        (pairs_128(14), quads(56, 4, 256, 2, PAIRS)),
        (planes_32(78), quads(312, 4, 256, 1, SINGLES)),
    ),
)
_IQ4_K_R4 = Unit(4, 144, (*_head(), _upper(), _nibbles(8, 32), (nibbles_16(16, 256), quads(64, 4, 256, 4, NIBBLES))))
_IQ5_K_R4 = Unit(
    4,
    176,
    (
        *_head(),
        _upper(),
        _nibbles(8, 32),
        (nibbles_32(16), quads(64, 4, 256, 4, NIBBLES)),
        (planes_32(144), quads(576, 4, 256, 1, _FIFTH)),
    ),
)
_SCALES_KS = (span(0, 8), runs(0, 4, 8, 1))
_IQ4_KS_R4 = Unit(4, 136, (_SCALES_KS, (nibbles_16(8, 256), quads(32, 4, 256, 4, NIBBLES))), meta_nbytes=4)
_IQ5_KS_R4 = Unit(
    4,
    168,
    (
        _SCALES_KS,
        (nibbles_32(8), quads(32, 4, 256, 4, NIBBLES)),
        (planes_32(136), quads(544, 4, 256, 1, _FIFTH)),
    ),
    meta_nbytes=4,
)

CODECS = {
    "IQ2_K_R4": interleaved(IQ2_K["IQ2_K"], _IQ2_K_R4),
    "IQ3_K_R4": interleaved(IQ3_K["IQ3_K"], _IQ3_K_R4),
    "IQ4_K_R4": interleaved(IQ4_K["IQ4_K"], _IQ4_K_R4),
    "IQ5_K_R4": interleaved(IQ5_K["IQ5_K"], _IQ5_K_R4),
    "IQ4_KS_R4": interleaved(IQ4_KS["IQ4_KS"], _IQ4_KS_R4),
    "IQ5_KS_R4": interleaved(IQ5_KS["IQ5_KS"], _IQ5_KS_R4),
}
