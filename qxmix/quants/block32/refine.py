"""What an explicit ``search: exhaustive`` adds to encoders that find a scale without a search: Q8_0, Q4_1, Q5_1.

On a lattice a weight is a whole number of steps, from zero or from a minimum, rounded to bfloat16 or to more.  The
engines take ``largest / 127`` for the step of Q8_0 and ``(most - least) / 15`` for that of Q4_1, which is right only
where a block of 32 happens to have the last code.  ``refine_scale`` and ``refine_affine`` have the step told by the
block; one that sits on no lattice keeps the bytes of the type's encoder.

Distances are in units in the last place of a bfloat16 of the weight's size: half a unit is the rounding of the weight
as it was stored, up to an eighth that of the scale as a half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from qxmix.quants.codec import search_decides
from qxmix.quants.common.reinterpret import bits_of, float_of
from qxmix.quants.jit import inlined

if TYPE_CHECKING:
    from qxmix.quants.codec import Columns, Encoder, Packed, Rows, Search

BLOCK = 32

LATTICES: tuple[Search, ...] = ("gradient", "exhaustive")
"""The searches between which these encoders choose."""

HALF_UNIT = 0.501
"""Half a unit, and a little for the product of scale and code that was rounded."""
LARGEST_HALF = 0x7BFF
"""Its bits."""
_UNIT = np.float32(2.0**-7)
_TINY = np.float32(2.0**-133)


class Refine(Protocol):
    """Stores those blocks of ``packed`` anew whose weights sit on a lattice."""

    def __call__(self, rows: Rows, packed: Packed, /) -> None:
        """Refine."""


@inlined
def _unit_of(value):
    """A unit in the last place of a bfloat16 of its size."""
    return max(float_of(bits_of(value) & np.uint32(0x7F800000)) * _UNIT, _TINY)


@inlined
def load_block(flat, of, x, unit):
    """Copy 32 weights, and their units beside them."""
    for e in range(BLOCK):
        x[e] = flat[of + e]
        unit[e] = _unit_of(x[e])


@inlined
def load_lane(blocks, k, x, unit):
    """The same of lane ``k`` of ``blocks`` (32, LANES)."""
    for e in range(BLOCK):
        x[e] = blocks[e, k]
        unit[e] = _unit_of(x[e])


@inlined
def half_near(bits, i):
    """The ``i``-th half in the order of its distance from one, as bits: itself, 1 up, 1 down, 2 up, ..."""
    return bits + ((i + 1) // 2 if i % 2 else -(i // 2))


def refined(plain: Encoder, refine: Refine) -> Encoder:
    """Encoder that is ``plain``, and for the exhaustive search stores blocks on a lattice anew."""

    def exhaustive(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
        plain(rows, columns, packed, search)
        refine(rows, packed)

    return search_decides(plain, exhaustive=exhaustive)
