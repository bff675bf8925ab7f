"""The loop around the encoders with error feedback: one for all types whose weights have levels of their own.

Lane k is row k: rows share the factor of 256 columns, and with it what an error does.  Spans of 256 columns do not know
of each other, so a span is also a super-block, where the type has them::

    for 64 rows side by side
        begin           what the type needs of whole rows: their variance, or the scale of a row
        for each span
            weigh, fix  weights of the searches and scale of the super-blocks, both from the weights as given
            for each block
                carry   the errors of the blocks before reach it
                find    its scale, searched on the weights as they now stand
                round   its columns, one after the other
            put         pack the span
        end             scales in front of the rows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES, usable_importance
from qxmix.quants.common.row_scale import load_columns, load_rows
from qxmix.quants.feedback.carry import carry, rounding
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import FeedbackEncoder

N_UNITS = 3


@inlined
def nothing_of_rows(rows, columns, unit):
    """``begin`` of a type that needs nothing of whole rows."""


@inlined
def nothing_fixed(x, w, unit):
    """``fix`` of a type without super-blocks."""


@inlined
def nothing_in_front(unit, packed, first, n):
    """``end`` of a type without row scales."""


@dataclass(frozen=True, slots=True)
class FeedbackType:
    """What a type adds to the loop; functions are compiled into it.

    Arrays: ``x``, ``w`` and ``codes`` (n, LANES) float32 of a span, or of one block where it says so; ``unit``
    (N_UNITS, LANES) float32 the type's own, kept from ``begin`` to ``end``.
    """

    block: int
    """Columns that share a scale: 16 or 32."""
    n_found: int
    """Floats that ``find`` leaves for ``put``, per block and row."""
    weigh: Callable[..., None]
    """``(x, w, unit)`` turns the importances ``w`` into the weights of the search."""
    find: Callable[..., None]
    """``(x, w, search, unit, found, step, offset)`` searches the scale of a block: ``found`` (n_found, LANES) is what
    is packed of it, ``step`` and ``offset`` (LANES,) what ``nearest`` gets, as a decoder will compute them."""
    nearest: Callable[..., tuple[object, object]]
    """``(x, step, inverse, offset)``, vectors: code of x and the value that a decoder makes of it; inverse is 1 / step,
    and 0 where that is."""
    put: Callable[..., None]
    """``(codes, found, unit, n_blocks, packed, first, n, span)`` packs a span into rows ``first .. first + n`` of
    ``packed``; ``found`` is (n_found, n_blocks, LANES)."""
    begin: Callable[..., None] = nothing_of_rows
    """``(rows, columns, unit)`` of up to LANES rows (n, n_cols)."""
    fix: Callable[..., None] = nothing_fixed
    """``(x, w, unit)`` sets the scale of a super-block."""
    end: Callable[..., None] = nothing_in_front
    """``(unit, packed, first, n)`` writes what stands in front of rows."""


def feedback_encoder(kind: FeedbackType) -> FeedbackEncoder:
    """Build the encoder ``encode(rows, columns, factors, packed, search)`` of a type; see ``codec.FeedbackEncoder``."""
    begin, weigh, fix, find, put, end = kind.begin, kind.weigh, kind.fix, kind.find, kind.put, kind.end
    block, n_found, round_columns = kind.block, kind.n_found, rounding(kind.nearest)

    @kernel
    def encode(rows, columns, factors, packed, search):
        n_rows, n_cols = rows.shape
        x, w = np.empty((SPAN, LANES), np.float32), np.empty((SPAN, LANES), np.float32)
        error, codes = np.empty((SPAN, LANES), np.float32), np.empty((SPAN, LANES), np.float32)
        found, unit = np.empty((n_found, SPAN // block, LANES), np.float32), np.zeros((N_UNITS, LANES), np.float32)
        found_one, steps = np.empty((n_found, LANES), np.float32), np.empty((2, LANES), np.float32)
        columns = usable_importance(columns, block)
        for first in range(0, n_rows, LANES):
            n = min(LANES, n_rows - first)
            begin(rows[first : first + n], columns, unit)
            for span in range(factors.shape[0]):
                of = SPAN * span
                width = min(SPAN, n_cols - of)
                load_rows(rows, first, n, of, x[:width])
                load_columns(columns, of, w[:width])
                for i in range(width):
                    for k in range(LANES):
                        error[i, k] = x[i, k]
                weigh(x[:width], w[:width], unit)
                fix(x[:width], w[:width], unit)
                for j in range(width // block):
                    lo, hi = block * j, block * (j + 1)
                    carry(x, error, factors[span], lo, hi)
                    find(x[lo:hi], w[lo:hi], search, unit, found_one, steps[0], steps[1])
                    for i in range(n_found):
                        for k in range(LANES):
                            found[i, j, k] = found_one[i, k]
                    round_columns(x, error, factors[span], lo, hi, steps[0], steps[1], codes)
                put(codes, found, unit, width // block, packed, first, n, span)
            end(unit, packed, first, n)

    return encode
