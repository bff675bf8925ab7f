"""The factor of a tensor's scales that has the least error.

An encoder for any factor finds the same codes for all of them, so what is decoded is proportional to the factor but for
the rounding of the scales as they are stored.  Of the error ``sum w (x - f y)^2`` for what ``y`` is decoded at factor 1
the least is where ``f = sum w x y / sum w y^2``; of the error at the output ``(x - f y) M (x - f y)`` with the second
moments M likewise.  Sums are exact or in fixed order, so that a factor does not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.codec import Codec, Columns, Rows
from qxmix.quants.quant_type import LEAST_FACTOR, MOST_FACTOR

DIGITS = 4
"""Decimals of a factor: half a unit changes an error by a part in 10^8."""


@dataclass(frozen=True, slots=True)
class Second:
    """Second moments of a matrix's inputs."""

    correlations: NDArray[np.float16]
    """(n_packed,) as ``feedback.correlations`` packs them."""
    diag: Columns
    """(n_cols,) mean squares."""
    n_tokens: float
    """Tokens they were measured on."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Sums over the weights x of some rows and what y is decoded of them at factor 1."""

    xy: float
    yy: float


def explained(codec: Codec, row_nbytes: int, x: Rows, columns: Columns, second: Second | None) -> Explained:
    """Encode and decode rows at factor 1, and sum up by the second moments, or else by the importance.

    Args:
        codec: That of a type that takes a factor.
        row_nbytes: Bytes of an encoded row.
        x: (n_rows, n_cols) weights, whole row groups.
        columns: (n_cols,) importance, or (0,).
        second: Second moments of the inputs, or None.

    """
    assert codec.scaled is not None, "a type that takes a factor"
    packed, y = np.empty((len(x), row_nbytes), np.uint8), np.empty_like(x)
    codec.scaled(x, columns, packed, np.float32(1.0))
    codec.decode(packed, y)
    if second is not None:
        from qxmix.quants.feedback.factor import products  # noqa: PLC0415 - numba

        bits = np.ascontiguousarray(second.correlations).view(np.uint16)
        return Explained(*products(bits, np.ascontiguousarray(second.diag), second.n_tokens, x, y))
    # Products of three float32 are not exact in float64, but the same everywhere.
    wy = y.astype(np.float64) * (columns.astype(np.float64) if len(columns) else 1.0)
    return Explained(fsum((wy * x).ravel()), fsum((wy * y).ravel()))


def best_factor(parts: Sequence[Explained]) -> float:
    """The factor with the least error on all parts together; 1 where nothing is decoded but zeros."""
    xy, yy = fsum(p.xy for p in parts), fsum(p.yy for p in parts)
    factor = xy / yy if yy > 0 else 1.0
    return round(min(max(factor, LEAST_FACTOR), MOST_FACTOR), DIGITS) if isfinite(factor) else 1.0
