"""Second moments as correlations, and the factors that an encoder gets of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.feedback.spans import SPAN, block_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Factors
    from qxmix.quants.feedback.options import Feedback

EXACT = np.inf
"""Tokens behind moments that are known, not measured."""


def pack_correlations(moments: NDArray[np.float64], n_cols: int) -> NDArray[np.float16]:
    """Correlations (n_packed,) of the diagonal blocks of a second-moment matrix or of sums of products.

    Args:
        moments: (n_spans, 256, 256) sums or means of ``a[i] * a[j]``; of a shorter last span the upper left part.
            The lower triangles are read.
        n_cols: Columns of the tensor.

    A column that was always 0 is correlated with nothing.

    """
    packed = []
    for block, n in zip(moments, block_sizes(n_cols), strict=True):
        root = np.sqrt(np.maximum(np.diagonal(block)[:n], 0.0))
        inverse = np.divide(1.0, root, where=root > 0, out=np.zeros(n))
        rows, columns = np.tril_indices(n, -1)
        packed.append(block[rows, columns] * inverse[rows] * inverse[columns])
    correlations: NDArray[np.float16] = np.clip(np.concatenate(packed), -1.0, 1.0).astype(np.float16)
    return correlations


def spans_of(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The diagonal blocks (n_spans, 256, 256) of a matrix (n_cols, n_cols), a shorter last one filled with zeros."""
    sizes = block_sizes(len(moments))
    spans = np.zeros((len(sizes), SPAN, SPAN))
    for i, n in enumerate(sizes):
        part = slice(SPAN * i, SPAN * i + n)
        spans[i, :n, :n] = moments[part, part]
    return spans


def make_factors(
    correlations: NDArray[np.float16], diag: Columns, n_tokens: float, feedback: Feedback
) -> tuple[Factors, int]:
    """Factorize the moments of a tensor; compiles or loads the kernel that does it.

    Args:
        correlations: (n_packed,) as :func:`pack_correlations` makes them.
        diag: (n_cols,) mean squares.
        n_tokens: Tokens that they were measured on, or ``EXACT``.
        feedback: Damping and shrinkage.

    Returns:
        The factors (n_spans, 256, 256), and the first span that cannot be factorized or -1.

    """
    from qxmix.quants.feedback.factor import AUTO, factorize  # noqa: PLC0415 - numba

    factors = np.empty((len(block_sizes(len(diag))), SPAN, SPAN), np.float32)
    shrink = AUTO if feedback.shrink is None else feedback.shrink
    bits, failed = np.ascontiguousarray(correlations).view(np.uint16), np.empty(1, np.int64)
    settings = float(n_tokens), float(feedback.damp), float(shrink)
    factorize(bits, np.ascontiguousarray(diag), *settings, factors, failed)
    return factors, int(failed[0])
