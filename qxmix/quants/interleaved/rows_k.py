"""Interleaved K-quants: Q2_K_R4, Q3_K_R4, Q4_K_R4, Q5_K_R4 and Q6_K_R4, and IQ4_XS_R8.

Units, sizes in bytes; the plain super-blocks are drawn in the files of their types::

    Q2_K_R4    d 8, dmin 8 | scales 64 | qs 256: pairs
    Q3_K_R4    d 8 | scales: upper 2 bits 16, lower 4 bits 32 | qh 128: singles | qs 256: pairs
    Q4_K_R4    d 8, dmin 8 | upper 2 bits of scale and minimum 16, lower 4 bits 32 | qs 512: nibbles
    Q5_K_R4    d 8, dmin 8 | the same 48 | qh 128: singles | qs 512: nibbles
    Q6_K_R4    d 8 | scales 64 | qh 256: pairs | ql 512: nibbles
    IQ4_XS_R8  d 16 | scales: upper 2 bits 16, lower 4 bits 32 | qs 1024: nibbles in order

Nibbles, pairs and singles are fields of ``bit_fields.quads``; a scale's bits are those of its number in ``counted``.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, Columns, Packed, Rows
from qxmix.quants.common.numerics import store_half
from qxmix.quants.interleaved.bit_fields import (
    NIBBLES,
    NIBBLES_IN_ORDER,
    PAIRS,
    SINGLES,
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
from qxmix.quants.jit import kernel
from qxmix.quants.k_quants.q2_k import CODECS as Q2_K
from qxmix.quants.k_quants.q2_k import NBYTES as Q2_K_NBYTES
from qxmix.quants.k_quants.q3_k import CODECS as Q3_K
from qxmix.quants.k_quants.q4_k import CODECS as Q4_K
from qxmix.quants.k_quants.q5_k import CODECS as Q5_K
from qxmix.quants.k_quants.q6_k import CODECS as Q6_K
from qxmix.quants.level.iq4_xs import CODECS as IQ4_XS

_8, _16, _256 = np.arange(8), np.arange(16), np.arange(256)
_UPPER_Q6_K: Starts = ((0, 8, 4, 12), (16, 24, 20, 28))
_FIFTH_Q5_K: Starts = ((0, 8, 4, 12, 16, 24, 20, 28),)

_Q2_K_R4 = Unit(
    4,
    84,
    (
        (span(80, 2), runs(0, 4, 2, 2)),
        (span(82, 2), runs(8, 4, 2, 2)),
        (span(0, 16), runs(16, 4, 16, 1)),
        (pairs_128(16), quads(80, 4, 256, 2, PAIRS)),
    ),
)
_Q3_K_R4 = Unit(
    4,
    110,
    (
        (span(108, 2), runs(0, 4, 2, 2)),
        (strided(104, _16, 4, 2), strided(8, counted(4, 16, halves=True), 16, 2)),
        (strided(96, _16, 8, 4), strided(24, counted(4, 16, halves=True), 32, 4)),
        (planes_32(0), quads(56, 4, 256, 1, SINGLES)),
        (pairs_128(32), quads(184, 4, 256, 2, PAIRS)),
    ),
)


def _affine_scales() -> list[tuple[np.ndarray, np.ndarray]]:
    """d, dmin, scales and minimums of Q4_K and Q5_K; ``affine_k`` draws the plain form."""
    low, high = np.arange(4), np.arange(4, 8)
    scale_4 = np.concatenate([8 * (4 + low), 8 * (8 + high)])
    scale_2 = np.concatenate([8 * (4 + low) + 4, 8 * high + 6])
    min_4 = np.concatenate([8 * (8 + low), 8 * (8 + high) + 4])
    min_2 = np.concatenate([8 * (8 + low) + 4, 8 * (4 + high) + 6])
    n = counted(4, 8)
    upper, lower = strided(16, n, 16, 4), 8 * (32 + n)[..., None] + np.arange(8)
    return [
        (span(0, 2), runs(0, 4, 2, 2)),
        (span(2, 2), runs(8, 4, 2, 2)),
        (scale_2[:, None] + np.arange(2), upper[..., :2]),
        (min_2[:, None] + np.arange(2), upper[..., 2:]),
        (scale_4[:, None] + np.arange(4), lower[..., :4]),
        (min_4[:, None] + np.arange(4), lower[..., 4:]),
    ]


_Q4_K_R4 = Unit(4, 144, (*_affine_scales(), (nibbles_32(16), quads(64, 4, 256, 4, NIBBLES))))
_Q5_K_R4 = Unit(
    4,
    176,
    (
        *_affine_scales(),
        (planes_32(16), quads(64, 4, 256, 1, _FIFTH_Q5_K)),
        (nibbles_32(48), quads(192, 4, 256, 4, NIBBLES)),
    ),
)

_LOWER_Q6_K = 8 * (64 * (_256 // 128) + 32 * (_256 % 64 // 32) + _256 % 32) + 4 * (_256 % 128 // 64)
"""ql: byte ``64 g + t`` holds weights ``128 g + t`` and ``+ 64``, byte ``64 g + 32 + t`` those ``+ 32``, ``+ 96``."""
_Q6_K_R4 = Unit(
    4,
    210,
    (
        (span(208, 2), runs(0, 4, 2, 2)),
        (span(192, 16), 8 * (8 + counted(4, 16, halves=True))[..., None] + np.arange(8)),
        (pairs_128(128), quads(72, 4, 256, 2, _UPPER_Q6_K)),
        (_LOWER_Q6_K[:, None] + np.arange(4), quads(328, 4, 256, 4, NIBBLES)),
    ),
)
_IQ4_XS_R8 = Unit(
    8,
    136,
    (
        (span(0, 2), runs(0, 8, 2, 2)),
        ((16 + 2 * _8)[:, None] + np.arange(2), strided(16, counted(8, 8), 16, 2)),
        ((32 + 4 * _8)[:, None] + np.arange(4), strided(32, counted(8, 8), 32, 4)),
        (nibbles_16(8, 256), quads(64, 8, 256, 4, NIBBLES_IN_ORDER)),
    ),
)

_0 = np.float32(0.0)
_HALF, _TENTH = np.float32(0.5), np.float32(0.1)


@kernel
def _store_ternary_rows(rows, packed):
    """Encode those rows that the levels -m, 0, m (m their largest magnitude) fit to a tenth of their energy.

    The reference's rule for Q2_K without importance.  For interleaved rows it tests row by row, so that its bytes do
    not depend on how many it is handed, and are followed; the other rows keep what Q2_K makes of each super-block.
    """
    for r in range(rows.shape[0]):
        x, out = rows[r], packed[r]
        m, energy, missed = _0, _0, _0
        for c in range(len(x)):
            m = max(m, abs(x[c]))
        half = _HALF * m
        for c in range(len(x)):
            level = m if x[c] >= half else (-m if x[c] < -half else _0)
            energy += x[c] * x[c]
            missed += (x[c] - level) * (x[c] - level)
        if not missed < _TENTH * energy:
            continue
        for block in range(len(x) // 256):
            at, of = block * Q2_K_NBYTES, block * 256
            for i in range(16):
                out[at + i] = 0x11
            for i in range(64):
                byte = 0
                for field in range(4):
                    v = x[of + 128 * (i // 32) + 32 * field + i % 32]
                    byte |= (2 if v >= half else 0 if v < -half else 1) << (2 * field)
                out[at + 16 + i] = np.uint8(byte)
            store_half(out, at + 80, m)
            store_half(out, at + 82, m)


def _encode_q2_k(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
    Q2_K["Q2_K"].encode(rows, columns, packed, search)
    if len(columns) == 0:
        _store_ternary_rows(rows, packed)


_Q2_K_BY_ROW = Codec(decode=Q2_K["Q2_K"].decode, encode=_encode_q2_k, version=Q2_K["Q2_K"].version)

CODECS = {
    "Q2_K_R4": interleaved(_Q2_K_BY_ROW, _Q2_K_R4, clean=16),
    "Q3_K_R4": interleaved(Q3_K["Q3_K"], _Q3_K_R4, clean=16),
    "Q4_K_R4": interleaved(Q4_K["Q4_K"], _Q4_K_R4, clean=32),
    "Q5_K_R4": interleaved(Q5_K["Q5_K"], _Q5_K_R4, clean=32),
    "Q6_K_R4": interleaved(Q6_K["Q6_K"], _Q6_K_R4, clean=16),
    "IQ4_XS_R8": interleaved(IQ4_XS["IQ4_XS"], _IQ4_XS_R8, clean=32),
}
