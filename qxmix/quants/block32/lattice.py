"""The scale of a block that sits on a lattice, moved to the half that decodes nearest to it."""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_bits, half_value
from qxmix.quants.common.reinterpret import bits_of, float_of
from qxmix.quants.jit import kernel

_STEPS = 6
"""Halves on either side that are tried: a scale that was fitted to values of bfloat16 is off by less."""
_NEAR = np.float32(0.6)
"""Units in the last place of a bfloat16 within which all values of a lattice come out: half a unit is the rounding of
the value as stored, a sixteenth that of the scale.  Other weights never do."""
_UNIT = np.float32(2.0**-7)
_TINY = np.float32(2.0**-133)
_INFINITE = 0x7C00


@kernel
def _farthest(x, q, k, scale):
    """Largest distance of a decoded value of lane ``k``, in units of bfloat16; ends beyond ``_NEAR``."""
    most = np.float32(0.0)
    for e in range(x.shape[0]):
        power = float_of(bits_of(x[e, k]) & np.uint32(0x7F800000))
        most = max(most, abs(scale * q[e, k] - x[e, k]) / max(power * _UNIT, _TINY))
        if not most <= _NEAR:
            break
    return most


@kernel
def nearest_on_lattice(x, q, scale):
    """Move ``scale`` (LANES,) of blocks whose weights ``x`` are levels ``q`` (n, LANES) times it, stored as bfloat16.

    Of the halves around it that with the least ``_farthest``, the nearest to it of equals; blocks on no lattice keep
    theirs.
    """
    for k in range(LANES):
        first = int(half_bits(scale[k]))
        sign, magnitude = first & 0x8000, first & 0x7FFF
        least, best = _NEAR, scale[k]
        for i in range(2 * _STEPS + 1):
            to = magnitude + ((i + 1) // 2 if i % 2 else -(i // 2))
            if 0 < to < _INFINITE:
                tried = half_value(sign | to)
                far = _farthest(x, q, k, tried)
                best = tried if far < least else best
                least = min(far, least)
        scale[k] = best
