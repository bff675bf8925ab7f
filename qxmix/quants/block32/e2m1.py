"""The 4-bit floats of MXFP4 and NVFP4: a sign, two bits of exponent, one of mantissa, doubled to be integers.

Code 0..7 is ``(0, 1, 2, 3, 4, 6, 8, 12)[code]``, code + 8 the same below zero.  The reference takes the first code with
the least ``|x - d * value|``.  All its scales d have few bits: both products and, where it matters, both differences
are exact, so a value is chosen once ``|x|`` exceeds d times the middle between it and the one below; the smaller
magnitude wins a tie, and nothing becomes code 8.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.reinterpret import bits_of
from qxmix.quants.common.simd import WIDTH, load, splat, store_bytes, where
from qxmix.quants.jit import inlined

E2M1_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.float32)
_MIDDLES = np.array([0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0], dtype=np.float32)
_N_MIDDLES = len(_MIDDLES)

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_8 = np.float32(8.0)
_16 = np.float32(16.0)


@inlined
def largest_bits(flat, of, n):
    """Bits of the largest magnitude of ``flat[of:of + n]``: as integers, whose maximum SIMD may take in any order."""
    largest = np.uint32(0)
    # Unsigned, for a signed index may count from the end, and then numba gathers one by one.
    for e in range(np.uint64(n)):
        largest = max(largest, np.uint32(bits_of(flat[np.uint64(of) + e]) & np.uint32(0x7FFFFFFF)))
    return largest


@inlined
def _code(x, d):
    code = np.int32(0)
    for i in range(_N_MIDDLES):
        code += np.int32(1) if abs(x) > d * _MIDDLES[i] else np.int32(0)
    return code | (np.int32(8) if (x < _0) & (code > 0) else np.int32(0))


@inlined
def pack_e2m1(flat, of, n, d, packed, at):
    """Codes of ``flat[of:of + n]`` with scale ``d``: weight t in the low, t + n / 2 in the high nibble of a byte."""
    low, high = flat[of : of + n // 2], flat[of + n // 2 : of + n]
    to = packed[at : at + n // 2]
    for t in range(n // 2):
        to[t] = np.uint8(_code(low[t], d) | _code(high[t], d) << np.int32(4))


@inlined
def _codes(x, d):
    """``_code`` of each lane, as float32."""
    magnitude, code = abs(x), splat(_0)
    for i in range(_N_MIDDLES):
        code = code + where(magnitude > d * _MIDDLES[i], splat(_1), splat(_0))
    return where((x < _0) & (code > _0), code + _8, code)


@inlined
def pack_32(flat, of, d, packed, at):
    """``pack_e2m1`` of 32 weights, in two vectors."""
    store_bytes(packed, at, _codes(load(flat, of), d) + _16 * _codes(load(flat, of + WIDTH), d))


@inlined
def unpack_e2m1(data, at, n, d, flat, to):
    """The inverse of ``pack_e2m1``."""
    for t in range(n // 2):
        flat[to + t] = d * E2M1_VALUES[data[at + t] & 15]
        flat[to + n // 2 + t] = d * E2M1_VALUES[data[at + t] >> 4]
