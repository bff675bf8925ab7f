"""Error feedback where one column outweighs its span: the better of it and of none is kept.

A scale that is stored as a multiple of another is rounded.  Without feedback the scale of a super-block is fitted so
that the multiple of the block that matters is nearly whole; with it that scale is settled before, with room for what is
carried, and a column with thousands of times the mean square of the others is missed by 15 times as much.  In layer 11
of SmolLM2's ``ffn_down``, where single columns have all of the energy of two spans, the error of the output became up
to 500 times that without feedback, though every other span gained.  So there the better of the two is kept, by the
moments that feedback itself goes by, less what is added to their diagonal: for each row, and for each super-block where
rows share no scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.feedback.factor import ADDED
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from qxmix.quants.codec import Codec, Columns, Factors, Packed, Rows

_VERSION = 1
"""Raised with every change of what is kept."""
_SHARE = np.float64(0.4)
"""Of a span's mean squares, what makes a column outweigh it: of 180 spans those with 0.44 or less lost nothing."""


@kernel
def find_heavy(columns, heavy):
    """Set ``heavy`` (n_spans,) uint8 to 1 where one of ``columns`` (n_cols,) float32 has over 2/5 of its span."""
    for span in range(len(heavy)):
        total, most = np.float64(0.0), np.float64(0.0)
        for i in range(SPAN * span, SPAN * (span + 1)):
            value = np.float64(columns[i])
            total += value
            most = value if value > most else most
        heavy[span] = 1 if most > _SHARE * total else 0


@kernel
def measure_loss(rows, decoded, factors, loss):
    """``e M e`` of each row's error e, for the moments M that were measured, into ``loss`` (n_rows,) float64.

    Args:
        rows: (n_rows, n_cols) float32 as given.
        decoded: The same shape: what became of them.
        factors: (n_cols / 256, 256, 256) float32, as ``factorize`` writes them.
        loss: Written.

    """
    reached = np.empty(SPAN, np.float64)
    for r in range(rows.shape[0]):
        total = np.float64(0.0)
        for span in range(factors.shape[0]):
            of, factor = SPAN * span, factors[span]
            for i in range(SPAN):
                reached[i] = np.float64(rows[r, of + i]) - np.float64(decoded[r, of + i])
                total -= np.float64(factor[ADDED]) * (reached[i] * reached[i])
            for j in range(SPAN - 2, -1, -1):  # from the end, so that what is read is still the error alone
                error, by = reached[j], factor[j]
                for k in range(j + 1, SPAN):
                    reached[k] += error * np.float64(by[k])
            for i in range(SPAN):
                value = reached[i] * np.float64(factor[i, i])
                total += value * value
        loss[r] = total


class _Piece(NamedTuple):
    """What of a row can be taken from one encoding or the other."""

    columns: slice
    nbytes: slice
    spans: slice


def guarded(codec: Codec, nbytes: int | None) -> Codec:
    """``codec`` with error feedback that keeps what encoding without it gives where that is better.

    Args:
        codec: Of a type whose blocks are as long as a span.
        nbytes: Bytes of a super-block; None where rows have a scale, so that a whole row is kept.

    Its version is higher by what this module makes of the bytes.

    """
    feedback = codec.feedback
    assert feedback is not None

    def encode(rows: Rows, columns: Columns, factors: Factors, packed: Packed, search: int) -> None:
        feedback(rows, columns, factors, packed, search)
        heavy = np.zeros(len(factors), np.uint8)
        find_heavy(columns, heavy)
        for piece in _pieces(heavy, nbytes):
            for first in range(0, len(rows), LANES):
                part = slice(first, first + LANES)
                x, kept = np.ascontiguousarray(rows[part, piece.columns]), packed[part, piece.nbytes]
                mine = np.ascontiguousarray(kept)
                other = np.empty_like(mine)
                codec.encode(x, columns[piece.columns], other, search)
                of = factors[piece.spans]
                worse = ~(_loss(codec, x, mine, of) <= _loss(codec, x, other, of))
                kept[worse] = other[worse]

    return replace(codec, feedback=encode, version=codec.version + _VERSION)


def _pieces(heavy: NDArray[np.uint8], nbytes: int | None) -> Iterator[_Piece]:
    if nbytes is None:
        if heavy.any():
            yield _Piece(slice(None), slice(None), slice(None))
        return
    for span in np.flatnonzero(heavy).tolist():
        columns, of = slice(SPAN * span, SPAN * (span + 1)), slice(nbytes * span, nbytes * (span + 1))
        yield _Piece(columns, of, slice(span, span + 1))


def _loss(codec: Codec, rows: Rows, packed: Packed, factors: Factors) -> NDArray[np.float64]:
    decoded, loss = np.empty_like(rows), np.empty(len(rows), np.float64)
    codec.decode(packed, decoded)
    measure_loss(rows, decoded, factors, loss)
    return loss
