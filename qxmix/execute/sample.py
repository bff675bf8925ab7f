"""Which rows of a tensor are encoded to learn its errors: all, or the same sample every time.

The rows of a tensor, over all its matrices, are cut into as many strata as groups are wanted, and one group of adjacent
rows is taken from each, at a place that the golden ratio scatters: heads and other things that repeat in a tensor have
their own periods, and a fixed stride could see one row of each head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lcm
from typing import NamedTuple

from qxmix.container.model import TensorInfo
from qxmix.quants import get

_GOLDEN = 0.6180339887498949
_LANES_WEIGHTS = 64 * 256
"""Weights that fill the lanes of every encoder: fewer at a time would be encoded slower."""
PIECE_WEIGHTS = 1 << 19
"""Weights of one piece of work, about: 2 MB as float32."""


class Rows(NamedTuple):
    """Adjacent rows of one matrix."""

    matrix: int
    first: int
    """First row in the matrix."""
    n: int


def sample_rows(tensor: TensorInfo, types: Sequence[str], n_wanted: int | None) -> tuple[Rows, ...]:
    """Rows to encode.

    Args:
        tensor: whose.
        types: what they will be encoded in; rows come in whole row groups of all of them.
        n_wanted: about how many rows; None for all.

    """
    total = tensor.n_rows * tensor.n_matrices
    unit = lcm(get(tensor.type).row_group, *(get(name).row_group for name in types))
    group = min(tensor.n_rows, -(-_LANES_WEIGHTS // tensor.n_cols // unit) * unit or unit)
    if n_wanted is None or n_wanted >= total:
        return tuple(
            Rows(matrix, first, min(group, tensor.n_rows - first))
            for matrix in range(tensor.n_matrices)
            for first in range(0, tensor.n_rows, group)
        )
    per_matrix = tensor.n_rows // group
    n_groups = max(1, min(n_wanted // group, per_matrix * tensor.n_matrices))
    strata = per_matrix * tensor.n_matrices
    places = []
    for i in range(n_groups):
        start, stop = i * strata // n_groups, (i + 1) * strata // n_groups
        at = start + int((i * _GOLDEN % 1) * (stop - start))
        places.append(Rows(at // per_matrix, at % per_matrix * group, group))
    return tuple(places)


def pieces(rows: Sequence[Rows], n_cols: int) -> Iterator[tuple[Rows, ...]]:
    """Cut a sample into pieces of work."""
    piece: list[Rows] = []
    for some in rows:
        piece.append(some)
        if sum(r.n for r in piece) * n_cols >= PIECE_WEIGHTS:
            yield tuple(piece)
            piece = []
    if piece:
        yield tuple(piece)
