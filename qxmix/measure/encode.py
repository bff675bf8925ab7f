"""Rows of a model, encoded and decoded by the real codecs, and how far what comes back is from what went in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import fsum, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qxmix.execute import stop
from qxmix.execute.sample import Rows
from qxmix.execute.source import Source
from qxmix.quants import codec_of, get

_GRADIENT = 0
"""Index of the default search in ``SEARCHES``."""


class Sums(NamedTuple):
    """Sums over weights x, errors d = q - x of what is decoded, and importances w (1 where there is none)."""

    xx: float
    """w x^2"""
    xd: float
    """w x d"""
    dd: float
    """w d^2"""

    @property
    def error(self) -> float:
        """Relative weighted squared error; 0 for weights of importance 0, which no encoder can get wrong."""
        return self.dd / self.xx if self.xx > 0 else 0.0

    @property
    def cosine(self) -> float:
        """Weighted cosine between weights and what is decoded."""
        norm = sqrt(self.xx) * sqrt(max(0.0, self.xx + 2 * self.xd + self.dd))
        return min(1.0, (self.xx + self.xd) / norm) if norm > 0 else float(self.dd == 0)


def total(parts: Sequence[Sums]) -> Sums:
    """The sums of all parts together, the same in any order."""
    return Sums(fsum(p.xx for p in parts), fsum(p.xd for p in parts), fsum(p.dd for p in parts))


def encoded(type_name: str, weights: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n_rows, row_nbytes) of ``weights`` (n_rows, n_cols) in a type, as an apply writes them."""
    stop.step()
    packed = np.empty((len(weights), get(type_name).row_nbytes(weights.shape[1])), np.uint8)
    codec_of(type_name).encode(weights, columns, packed, _GRADIENT)
    return packed


def decoded(type_name: str, packed: NDArray[np.uint8], n_cols: int) -> NDArray[np.float32]:
    """(n_rows, n_cols) of what :func:`encoded` gave."""
    weights = np.empty((len(packed), n_cols), np.float32)
    codec_of(type_name).decode(packed, weights)
    return weights


def sums_of(weights: NDArray[np.float32], back: NDArray[np.float32], columns: NDArray[np.float32]) -> Sums:
    """Compare ``back`` with ``weights``, both (n_rows, n_cols); float32 inside a row, exact over rows."""
    root = np.sqrt(columns) if len(columns) else np.ones(weights.shape[1], np.float32)
    x, d = weights * root, (back - weights) * root
    pairs = ((x, x), (x, d), (d, d))
    return Sums(*(fsum(np.einsum("ij,ij->i", a, b).astype(np.float64)) for a, b in pairs))


def errors(source: Source, rows: Sequence[Rows], packed: NDArray[np.uint8], types: Sequence[str]) -> dict[str, Sums]:
    """What each of ``types`` does to some rows.

    Args:
        source: the tensor.
        rows: which rows, matrix by matrix.
        packed: what :meth:`Source.read` gave for them.
        types: those that the rows allow.

    Returns:
        The sums under each type; a type whose scales overflow on these weights is left out.

    """
    parts: dict[str, list[Sums]] = {name: [] for name in types}
    weights = source.decode(packed)
    start = 0
    for matrix, group in groupby(rows, lambda some: some.matrix):
        n = sum(some.n for some in group)
        mine, columns = weights[start : start + n], source.columns(matrix)
        start += n
        for name in types:
            with np.errstate(all="ignore"):
                parts[name].append(sums_of(mine, decoded(name, encoded(name, mine, columns), mine.shape[1]), columns))
    found = {name: total(some) for name, some in parts.items()}
    return {name: sums for name, sums in found.items() if np.isfinite(sums.dd)}
