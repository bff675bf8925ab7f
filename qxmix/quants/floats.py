"""F32, F16 and BF16: one weight per block, no scale."""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.common.half import rounded_half, rounds_halves
from qxmix.quants.common.numerics import half_bits, half_value
from qxmix.quants.common.reinterpret import bits_of, flat_as, flattened, float_of
from qxmix.quants.jit import inlined, kernel


@kernel
def _encode_f32(rows, _columns, packed, _search):
    flat, out = flattened(rows), flat_as(packed, np.float32)
    for i in range(len(flat)):  # which needs nothing of numba, as assigning a whole array does
        out[i] = flat[i]


@kernel
def _decode_f32(packed, rows):
    flat, out = flat_as(packed, np.float32), flattened(rows)
    for i in range(len(flat)):
        out[i] = flat[i]


@inlined
def _half(x):
    """Bits of the half nearest to a weight; a NaN keeps its sign."""
    bits = half_bits(x)
    return np.uint16(bits & np.uint16(0x7FFF)) if np.isnan(x) and bits_of(x) < np.uint32(0x80000000) else bits


@kernel
def _encode_f16(rows, _columns, packed, _search):
    flat, bits = flattened(rows), flat_as(packed, np.uint16)
    for i in range(len(flat)):
        bits[i] = rounded_half(flat[i]) if rounds_halves() else _half(flat[i])


@kernel
def _decode_f16(packed, rows):
    bits, flat = flat_as(packed, np.uint16), flattened(rows)
    for i in range(len(flat)):
        flat[i] = half_value(bits[i])


@inlined
def _bfloat_word(x):
    """A word whose upper half is the bfloat16 nearest to float32 ``x``, ties to even; a NaN becomes quiet, as in ggml.

    NaN or not is chosen before the word is halved: half of the time of choosing among halves.
    """
    bits = bits_of(x)
    if np.isnan(x):
        return np.uint32(bits | np.uint32(0x400000))
    return np.uint32(bits + np.uint32(np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))))


@kernel
def _encode_bf16(rows, _columns, packed, _search):
    flat, bits = flattened(rows), flat_as(packed, np.uint16)
    for i in range(len(flat)):
        bits[i] = np.uint16(_bfloat_word(flat[i]) >> np.uint32(16))


@kernel
def _decode_bf16(packed, rows):
    bits, flat = flat_as(packed, np.uint16), flattened(rows)
    for i in range(len(flat)):
        flat[i] = float_of(np.uint32(bits[i]) << np.uint32(16))


CODECS = {
    "F32": Codec(decode=_decode_f32, encode=_encode_f32),
    "F16": Codec(decode=_decode_f16, encode=_encode_f16),
    "BF16": Codec(decode=_decode_bf16, encode=_encode_bf16),
}
