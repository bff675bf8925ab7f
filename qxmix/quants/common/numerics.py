"""Bit routines that kernels share: halves, and the engine's rounding."""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.reinterpret import bits_of, float_of
from qxmix.quants.jit import inlined

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one
_INF = np.float32(np.inf)


@inlined
def nint(x):
    """Round half to even as ``nearest_int`` of ggml does, but stay a float32; exact for ``|x| <= 2**22``."""
    return np.float32(np.float32(x + _MAGIC) - _MAGIC)


@inlined
def finite_or_0(x):
    """``x``, or 0 where it is infinite or a NaN: the reciprocal of a scale, before it multiplies weights.

    ``nearest_int`` of ggml makes a large negative number of an infinity and 0 of a NaN, so that levels that start at
    zero all become zero; with a reciprocal of 0 they do so here, too, and none is a NaN, which has no integer.
    """
    return x if abs(x) < _INF else np.float32(0.0)


@inlined
def half_bits(x):
    """Bits of the IEEE half nearest to float32 ``x``, ties to even; overflow gives infinity.

    numba has no float16 on the CPU.  A NaN is 0xFE00 whatever its sign: scales that overflow become one, negative where
    x86 makes it and positive where ARM64 does.
    """
    bits = bits_of(x)
    sign = np.uint32((bits >> np.uint32(16)) & np.uint32(0x8000))
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    if magnitude >= np.uint32(0x47800000):  # 65536 and above, infinity, NaN
        return np.uint16(np.uint32(0xFE00) if magnitude > np.uint32(0x7F800000) else sign | np.uint32(0x7C00))
    if magnitude < np.uint32(0x38800000):  # below 2**-14: a subnormal half, whose unit is 2**-24
        # Adding 0.5 lets the addition's own rounding (to nearest even, unit 2**-24) do the work.
        shifted = np.float32(float_of(magnitude) + np.float32(0.5))
        return np.uint16(sign | np.uint32(bits_of(shifted) - np.uint32(0x3F000000)))
    rounded = np.uint32(magnitude + np.uint32(0xFFF) + ((magnitude >> np.uint32(13)) & np.uint32(1)))
    return np.uint16(sign | np.uint32((rounded - np.uint32(0x38000000)) >> np.uint32(13)))


@inlined
def half_value(bits):
    """The float32 equal to the IEEE half with these 16 bits."""
    h = np.uint32(bits)
    sign = np.uint32((h & np.uint32(0x8000)) << np.uint32(16))
    magnitude = np.uint32(h & np.uint32(0x7FFF))
    if magnitude >= np.uint32(0x7C00):
        return float_of(sign | np.uint32(0x7F800000) | ((magnitude & np.uint32(0x3FF)) << np.uint32(13)))
    # Subnormal halves need no case of their own: the scaling below is exact and normalises them.
    scaled = float_of(magnitude << np.uint32(13)) * np.float32(2.0**112)
    return float_of(sign | bits_of(scaled))


@inlined
def half_round(x):
    """``x`` rounded to a half and back: the value a decoder will read."""
    return half_value(half_bits(x))


@inlined
def store_half(out, at, x):
    """Write float32 ``x`` as a little-endian half to ``out[at:at + 2]``."""
    bits = half_bits(x)
    out[at] = np.uint8(bits & np.uint16(0xFF))
    out[at + 1] = np.uint8(bits >> np.uint16(8))


@inlined
def load_half(data, at):
    """The half at ``data[at:at + 2]`` as a float32."""
    return half_value(np.uint32(data[at]) | (np.uint32(data[at + 1]) << np.uint32(8)))
