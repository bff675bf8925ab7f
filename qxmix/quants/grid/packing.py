"""What the layouts of the grid I-quants share: signs of a group, sign words, nibbles, and the step of a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.grid.grids import grid_points
from qxmix.quants.grid.search import SUPER_BLOCK
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Decoder, Packed, Rows
    from qxmix.quants.contracts import PutGrid


@inlined
def eighth_sign(signs):
    """Eight sign bits from the seven that parity types store: their number of ones is even."""
    parity = signs ^ (signs >> 4)
    parity ^= parity >> 2
    return signs | (((parity ^ (parity >> 1)) & 1) << 7)


@inlined
def store_sign_word(packed, at, signs, of, scale):
    """Write four groups of seven sign bits and, on top, a 4-bit scale as a little-endian 32-bit word."""
    word = np.uint32(scale) << np.uint32(28)
    for k in range(4):
        word |= np.uint32(signs[of + k] & 127) << np.uint32(7 * k)
    for i in range(4):
        packed[at + i] = np.uint8((word >> np.uint32(8 * i)) & np.uint32(255))


@inlined
def load_word(data, at):
    """The little-endian 32-bit word at ``data[at:at + 4]``."""
    return (
        np.uint32(data[at])
        | (np.uint32(data[at + 1]) << np.uint32(8))
        | (np.uint32(data[at + 2]) << np.uint32(16))
        | (np.uint32(data[at + 3]) << np.uint32(24))
    )


@inlined
def store_nibbles(packed, at, codes):
    """Write 4-bit codes two to a byte, the first of a pair in the low half."""
    for b in range(len(codes) // 2):
        packed[at + b] = codes[2 * b] | np.uint8(codes[2 * b + 1] << np.uint8(4))


@inlined
def take_nibble(data, at, i):
    """The ``i``-th of the 4-bit codes from ``data[at]`` on."""
    return (np.uint32(data[at + (i >> 1)]) >> np.uint32(4 * (i & 1))) & np.uint32(15)


@inlined
def step_of(d, code, factor):
    """Scale of a block from its 4-bit code: ``d * (0.5 + code) * factor``."""
    return d * (np.float32(0.5) + np.float32(code)) * np.float32(factor)


@inlined
def put_group(flat, to, scale, values, point, signs):
    """Decode one group: ``scale`` times grid point, negated where ``signs`` has a bit."""
    for i in range(values.shape[1]):
        v = scale * values[point, i]
        flat[to + i] = -v if (signs >> i) & 1 else v


def put_words(first: int, apart: int, factor: float, put_eight: Callable[..., None]) -> PutGrid:
    """Build the ``put`` of a type whose block b has a sign word at ``first + apart * b``, with its scale on top.

    ``put_eight(data, at, e, scale, signs, values, flat, to)`` decodes the ``e``-th eight weights to ``flat[to:]``.
    """

    @inlined
    def put(data, at, values, flat, to):
        d = load_half(data, at)
        for b in range(8):
            word = load_word(data, at + first + apart * b)
            scale = step_of(d, word >> np.uint32(28), factor)
            for k in range(4):
                e = 4 * b + k
                signs = eighth_sign((word >> np.uint32(7 * k)) & np.uint32(127))
                put_eight(data, at, e, scale, signs, values, flat, to + 8 * e)

    return put


def points_decoder(block_nbytes: int, put: PutGrid) -> Callable[..., None]:
    """Build the kernel that decodes super-blocks of ``block_nbytes`` bytes with the points that it is given.

    ``put(data, at, values, flat, to)`` decodes the super-block at ``data[at:]`` to ``flat[to:]``; ``values`` are the
    points.
    """

    @kernel
    def decode(packed, rows, values):
        data, flat = flattened(packed), flattened(rows)
        for block in range(rows.size // SUPER_BLOCK):
            put(data, block * block_nbytes, values, flat, block * SUPER_BLOCK)

    return decode


def grid_decoder(name: str, decode: Callable[..., None]) -> Decoder:
    """Build the decoder with the points of the grid ``name``; ``decode`` is the kernel of ``points_decoder``."""

    def decode_rows(packed: Packed, rows: Rows) -> None:
        decode(packed, rows, grid_points(name))

    return decode_rows
