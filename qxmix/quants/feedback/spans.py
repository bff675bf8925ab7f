"""Spans of columns that know of each other, and the size of what is kept of their correlations."""

from __future__ import annotations

SPAN = 256
"""Columns whose second moments are kept and factorized together; nothing crosses from one span to the next."""


def block_sizes(n_cols: int) -> tuple[int, ...]:
    """Columns of each span of a row: all 256 but for a last one that may be shorter."""
    whole, rest = divmod(n_cols, SPAN)
    return (SPAN,) * whole + ((rest,) if rest else ())


def packed_size(n_cols: int) -> int:
    """Correlations that are kept of ``n_cols`` columns."""
    return sum(n * (n - 1) // 2 for n in block_sizes(n_cols))
