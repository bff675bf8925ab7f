"""Slow scalar encoder of IQ4_XS; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import IQ4, F, blocks, extreme, half, iq4_scale, near, nibbles, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence


def iq4_xs(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:
    """One super-block of 256 weights."""
    variance = F(F(2) * sigma2(row))
    scales = []
    for b, xs in enumerate(blocks(row)):
        if importance is None:
            ws = [F(x * x) for x in xs]
        else:
            qs = importance[32 * b : 32 * b + 32]
            ws = [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(qs, xs, strict=True)]
        scales.append(iq4_scale(xs, ws, gradient=gradient))
    d = F(-extreme(scales) / F(32))
    inverse = F(F(1) / d) if d else F(0)
    levels = [max(-32, min(31, nint(F(inverse * s)))) for s in scales]
    codes = b""
    for level, xs in zip(levels, blocks(row), strict=True):
        step = F(d * F(level))
        inverse = F(F(1) / step) if step else F(0)
        codes += nibbles([near(IQ4, F(inverse * x)) for x in xs])
    six = [level + 32 for level in levels]
    low = bytes(six[2 * i] & 15 | (six[2 * i + 1] & 15) << 4 for i in range(4))
    high = struct.pack("<H", sum((s >> 4) << 2 * j for j, s in enumerate(six)))
    return half(d) + high + low + codes
