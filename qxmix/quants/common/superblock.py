"""What the types with super-blocks of 256 weights share: weights, the fields of packed bits, the way to the output.

Lane k is super-block k: ``x`` (256, LANES) holds LANES super-blocks, and its rows ``16 * j .. 16 * j + 16`` are block j
of each.  Searching block j of all of them at once leaves its scale in row j of (n_blocks, LANES), where the search over
the scales of a super-block wants it.

Packed fields that recur, e counting the weights of a super-block:

* T128, 2 bits: byte ``32 g + t`` holds weights ``128 g + t``, ``+ 32``, ``+ 64``, ``+ 96`` from bit 0 up.
* F64, 4 bits: byte ``32 g + t`` holds weight ``64 g + t`` in the low, ``64 g + 32 + t`` in the high nibble.
* BP, 1 bit: bit i of byte t belongs to weight ``32 i + t``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import importance_decides
from qxmix.quants.common.lanes import (
    LANES,
    load_blocks,
    load_importance,
    sum_of_squares,
    usable_importance,
    weigh_by_square,
)
from qxmix.quants.common.numerics import half_bits, nint
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Decoder
    from qxmix.quants.contracts import Fill, PutSuper, Weigh

SUPER = 256

_0 = np.float32(0.0)


@kernel
def weigh_super(x, w, factor):
    """``w *= sqrt(factor * mean square of the super-block + x * x)``; the mean is summed in element order."""
    total = np.empty(LANES, np.float32)
    sum_of_squares(x, total)
    for k in range(LANES):
        total[k] = factor * total[k] / np.float32(SUPER)
    for e in range(SUPER):
        for k in range(LANES):
            w[e, k] *= np.sqrt(total[k] + x[e, k] * x[e, k])


def weighing(factor: float) -> Weigh:
    """Build the ``weigh`` of ``super_encoder``: ``weigh_super`` with this factor; without importance ``x * x``."""
    factor32 = np.float32(factor)

    @spliced
    def weigh(x, w, weighted):
        if weighted:
            weigh_super(x, w, factor32)
        else:
            weigh_by_square(x, w)

    return weigh


@inlined
def sum_over(w, total):
    """Sum of each lane in element order."""
    for k in range(LANES):
        total[k] = _0
    for e in range(w.shape[0]):
        for k in range(LANES):
            total[k] += w[e, k]


@inlined
def largest_scale(scales, amax, mx):
    """Largest magnitude over the blocks of each super-block, and the scale that has it; the first one wins."""
    for k in range(LANES):
        amax[k] = _0
        mx[k] = _0
    for j in range(scales.shape[0]):
        for k in range(LANES):
            better = abs(scales[j, k]) > amax[k]
            amax[k] = abs(scales[j, k]) if better else amax[k]
            mx[k] = scales[j, k] if better else mx[k]


@inlined
def put_half(packed, at, value):
    """Store the halves nearest to ``value`` (LANES,) in rows ``at`` and ``at + 1``."""
    for k in range(LANES):
        bits = half_bits(value[k])
        packed[at, k] = np.uint8(bits & np.uint16(255))
        packed[at + 1, k] = np.uint8(bits >> np.uint16(8))


@inlined
def round_block(x, step, offset, low, high, code):
    """Codes of a block for the step that a decoder will use; where that is zero the codes of the search stay."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            # A NaN, from a scale too large for a half, becomes the lowest level on every CPU.
            level = min(max(low, nint((x[e, k] + offset[k]) / step[k])), high)
            code[e, k] = code[e, k] if step[k] == _0 else np.uint8(np.int32(level - low))


@inlined
def pack_two_bits(code, shift, packed, at):
    """Bits ``shift`` and ``shift + 1`` of the codes (256, LANES) as field T128 from row ``at``."""
    three = np.uint8(3)
    for g in range(2):
        for t in range(32):
            e = 128 * g + t
            for k in range(LANES):
                a, b = (code[e, k] >> shift) & three, (code[e + 32, k] >> shift) & three
                c, d = (code[e + 64, k] >> shift) & three, (code[e + 96, k] >> shift) & three
                packed[at + 32 * g + t, k] = np.uint8(a | b << 2 | c << 4 | d << 6)


@inlined
def pack_nibbles(code, packed, at, apart=32):
    """The low 4 bits of the codes (256, LANES) as field F64 from row ``at``; of F128 codes are 64 ``apart``."""
    for g in range(128 // apart):
        for t in range(apart):
            e = 2 * apart * g + t
            for k in range(LANES):
                low, high = code[e, k] & np.uint8(15), code[e + apart, k] & np.uint8(15)
                packed[at + apart * g + t, k] = np.uint8(low | high << 4)


@inlined
def pack_bit(code, shift, packed, at):
    """Bit ``shift`` of the codes (256, LANES) as field BP from row ``at``."""
    for t in range(32):
        for k in range(LANES):
            packed[at + t, k] = 0
        for i in range(8):
            for k in range(LANES):
                packed[at + t, k] |= np.uint8(((code[32 * i + t, k] >> shift) & np.uint8(1)) << i)


@kernel
def store_super(packed, first, n, out):
    """Copy lanes ``0 .. n`` of ``packed`` (nbytes, LANES) to the super-blocks ``first ..`` of flat ``out``."""
    nbytes = packed.shape[0]
    for k in range(n):
        at = (first + k) * nbytes
        for i in range(nbytes):
            out[at + i] = packed[i, k]


def super_encoder(nbytes: int, block: int, weigh: Weigh, fill: Fill, *, apart: bool = False) -> Callable[..., None]:
    """Build the encoder ``encode(rows, columns, out, given)`` of super-blocks of ``nbytes`` bytes, LANES at a time.

    ``weigh(x, w, weighted)`` makes the importances ``w`` (256, LANES), unset where not ``weighted``, the weights of the
    search.  ``fill(x, w, weighted, given, packed)`` writes all bytes of ``packed`` (nbytes, LANES); what it allocates
    costs nothing beside a search over LANES super-blocks.  ``given`` is handed through: the search, or a tuple of
    arrays.  A block of ``block`` weights without any importance is fitted as if all were equal; 0 leaves that to
    ``weigh``.  Where the searches with and without an importance have little in common they are kernels ``apart``:
    ``weighted`` is a constant in each, and neither compiles with the other.
    """

    def encoder(*, known: bool, either: bool) -> Callable[..., None]:
        @kernel
        def encode(rows, columns, packed, given):
            flat, flat_out, n_super = flattened(rows), flattened(packed), rows.size // SUPER
            weighted = len(columns) > 0 if either else known
            x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
            out = np.empty((nbytes, LANES), np.uint8)
            if weighted and block:
                columns = usable_importance(columns, block)
            for first in range(0, n_super, LANES):
                n = min(LANES, n_super - first)
                load_blocks(flat, first, n, x)
                if weighted:
                    load_importance(columns, first, n, w)
                weigh(x, w, weighted)
                fill(x, w, weighted, given, out)
                store_super(out, first, n, flat_out)

        return encode

    if not apart:
        return encoder(known=False, either=True)
    return importance_decides(encoder(known=True, either=False), without=encoder(known=False, either=False))


def super_decoder(nbytes: int, put: PutSuper) -> Decoder:
    """Build the decoder of super-blocks of ``nbytes`` bytes.

    ``put(data, at, flat, start)`` decodes the super-block at ``data[at:]`` to ``flat[start:]``.
    """

    @kernel
    def decode(packed, rows):
        data, flat = flattened(packed), flattened(rows)
        for i in range(rows.size // SUPER):
            put(data, nbytes * i, flat, SUPER * i)

    return decode
