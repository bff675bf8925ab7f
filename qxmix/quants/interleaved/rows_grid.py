"""Interleaved grid types: IQ2_XXS_R4, IQ2_XS_R4, IQ2_S_R4, IQ3_XXS_R4 and IQ3_S_R4.

Units, sizes in bytes; the plain super-blocks are drawn in the files of their types::

    IQ2_XXS_R4  d 8 | words 128: one of each row in turn, | qs 128: 4 bytes of each row in turn
                      byte l = bit l of the scale, signs of group l scrambled
    IQ3_XXS_R4  d 8 | words 128: the same                 | qs 256: 8 bytes of each row in turn
    IQ2_XS_R4   d 8 | qs 256: 4 words of 9 bits index, 7 bits signs scrambled of each row in turn | scales 32
    IQ2_S_R4    d 8 | qs 128: 4 bytes of each row in turn | qh 32 | signs 128: 4 bytes of each row | scales 32
    IQ3_S_R4    d 8 | qs 256: index of groups 0, 4, 1, 5, .. | qh 32 | signs 128: singles | scales 16

What is not said to be otherwise has one byte of each row in turn.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.grid.iq2_s import CODECS as IQ2_S
from qxmix.quants.grid.iq2_xs import CODECS as IQ2_XS
from qxmix.quants.grid.iq2_xxs import CODECS as IQ2_XXS
from qxmix.quants.grid.iq3_s import CODECS as IQ3_S
from qxmix.quants.grid.iq3_xxs import CODECS as IQ3_XXS
from qxmix.quants.interleaved.bit_fields import SINGLES, Bits, counted, quads, runs, span, strided
from qxmix.quants.interleaved.interleave import interleaved
from qxmix.quants.interleaved.moves import Unit

_SCALES = (span(0, 2), runs(0, 4, 2, 2))


def _blocks(first: int, step: int, n_bytes: int) -> Bits:
    """``n_bytes`` bytes of each of eight blocks that begin ``step`` bytes apart."""
    return span(0, n_bytes) + 8 * (first + step * np.arange(8))[:, None, None]


def _sign_words(plain_at: int, step: int) -> tuple[list[tuple[Bits, Bits]], Bits]:
    """Fields of the sign words at bytes ``plain_at + step * block``, and which bits of them are scrambled."""
    plain = 8 * (plain_at + step * np.arange(8))[:, None]
    woven = runs(8, 4, 32, 4).reshape(4, 8, 4, 8)
    scale = (plain + 28 + np.arange(4)[None]), woven[..., 0]
    signs = (plain + np.arange(28)[None]), woven[..., 1:].reshape(4, 8, 28)
    return [scale, signs], woven[..., 1:]


def _unit_xxs(nbytes: int, qs: tuple[Bits, Bits], words_at: int, step: int) -> Unit:
    words, scrambled = _sign_words(words_at, step)
    return Unit(4, nbytes, (_SCALES, *words, qs), scrambled)


_IQ2_XXS_R4 = _unit_xxs(66, (_blocks(2, 8, 4), runs(136, 4, 32, 4).reshape(4, 8, 4, 8)), 6, 8)
_IQ3_XXS_R4 = _unit_xxs(98, (span(2, 64), runs(136, 4, 64, 8)), 66, 4)

_WORDS_XS = runs(8, 4, 64, 8)
_IQ2_XS_R4 = Unit(
    4,
    74,
    (_SCALES, (span(2, 64), _WORDS_XS), (span(66, 8), runs(264, 4, 8, 1))),
    _WORDS_XS.reshape(4, 32, 16)[..., 9:],
)
_IQ2_S_R4 = Unit(
    4,
    82,
    (
        _SCALES,
        (span(2, 32), runs(8, 4, 32, 4)),
        (span(66, 8), runs(136, 4, 8, 1)),
        (span(34, 32), runs(168, 4, 32, 4)),
        (span(74, 8), runs(296, 4, 8, 1)),
    ),
)

_GROUPS = np.arange(64)
_PLACE = 32 * (_GROUPS // 8) + 8 * (_GROUPS % 4) + 4 * (_GROUPS % 8 // 4)
_IQ3_S_R4 = Unit(
    4,
    110,
    (
        _SCALES,
        (span(2, 64), 8 * (8 + _PLACE + np.arange(4)[:, None])[..., None] + np.arange(8)),
        (span(66, 8), runs(264, 4, 8, 1)),
        ((8 * 74 + np.arange(256))[:, None], quads(296, 4, 256, 1, SINGLES)),
        ((8 * 106 + 4 * np.arange(8))[:, None] + np.arange(4), strided(424, counted(4, 8), 16, 4)),
    ),
)

CODECS = {
    "IQ2_XXS_R4": interleaved(IQ2_XXS["IQ2_XXS"], _IQ2_XXS_R4, clean=32),
    "IQ2_XS_R4": interleaved(IQ2_XS["IQ2_XS"], _IQ2_XS_R4, clean=16),
    "IQ2_S_R4": interleaved(IQ2_S["IQ2_S"], _IQ2_S_R4, clean=16),
    "IQ3_XXS_R4": interleaved(IQ3_XXS["IQ3_XXS"], _IQ3_XXS_R4, clean=32),
    "IQ3_S_R4": interleaved(IQ3_S["IQ3_S"], _IQ3_S_R4, clean=16),
}
