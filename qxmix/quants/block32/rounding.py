"""The encoders that only round: blocks of 32 weights in two vectors, every step on all weights of a block at once.

Nothing here is a sum, so nothing depends on an order, and a block can be its own lanes.  Measured beside the loop over
its elements that stood here: Q4_0 ..., see the table in ``quants/README.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.simd import WIDTH, greatest_lane, least_lane, load, splat, truncate
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.codec import Encoder
    from qxmix.quants.contracts import PackBlock

BLOCK = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)


@inlined
def _first_of(flat, at, magnitude):
    """The first weight of this magnitude: of both extremes, or of zeros of either sign."""
    for e in range(BLOCK):
        if abs(flat[at + e]) == magnitude:
            return flat[at + e]
    return magnitude


@inlined
def _largest(flat, at, least, most):
    """The weight of largest magnitude, 0 where all are zero; where both extremes have it, the first one."""
    if most == -least:
        return _first_of(flat, at, most) if most != _0 else _0
    return most if most > -least else least


@inlined
def _codes(x, inverse, shift, top):
    """``trunc(x * inverse + shift)`` within ``[0, top]``: the reference adds before it truncates."""
    return max(truncate(min(splat(top), x * inverse + shift)), _0)


def rounding_encoder(
    nmax: int, block_nbytes: int, pack: PackBlock, *, affine: bool, symmetric: bool = False
) -> Encoder:
    """Build the encoder of codes ``[0, nmax]``: ``quantize_row_q4_0_ref``, ``..._q4_1_ref`` and their like in ggml.

    Levels lie around zero, the weight of largest magnitude at the lowest of them; if ``affine`` between the extremes
    of the block; if ``symmetric`` between the lowest but one and the highest, as ``quantize_row_q4_0_symmetric`` of
    ik_llama.cpp has it.  ``pack(packed, at, scale, minimum, low, high)`` stores the block whose weights 0 .. 15 have
    the codes ``low``, the others ``high``: vectors of whole float32.
    """
    middle, top = np.float32((nmax + 1) // 2), np.float32(nmax)

    @kernel
    def encode(rows, _columns, packed, _search):
        flat, out = flattened(rows), flattened(packed)
        for block in range(rows.size // BLOCK):
            at = block * BLOCK
            low, high = load(flat, at), load(flat, at + WIDTH)
            least, most = least_lane(min(low, high)), greatest_lane(max(low, high))
            if affine:
                least = _first_of(flat, at, _0) if least == _0 else least
                scale = (most - least) / top
            elif symmetric:
                scale = abs(max(most, -least)) / (middle - _1)
            else:
                scale = _largest(flat, at, least, most) / -middle
            inverse = _1 / scale if scale != _0 else _0
            if affine:
                low, high = low - least, high - least
            shift = _HALF if affine else middle + _HALF
            low, high = _codes(low, inverse, shift, top), _codes(high, inverse, shift, top)
            pack(out, block * block_nbytes, scale, least, low, high)

    return encode
