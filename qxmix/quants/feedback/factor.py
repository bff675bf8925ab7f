"""Factors of second moments: what the error of one column does to the best value of a later one.

With the second moments ``M = E[a a^T]`` of a layer's input the error of a row's output is ``e M e^T`` for the errors e
of its weights.  ``M = R R^T`` with R upper triangular, and ``A = R diag(R)^-1``, gives it as a sum over columns k of

    R[k, k]^2 * (e_k + sum over j < k of e_j A[j, k])^2

so that, taken from the first column to the last, the best value of column k is its weight plus ``sum e_j A[j, k]`` with
``e_j = weight - level`` of the columns before.  That is OBQ, GPTQ and LDLQ in one (Frantar et al. 2022, arXiv
2210.17323; Chee et al. 2023, arXiv 2307.13304); written so, it needs no inverse.

Everything is float64 in fixed order, no library: LAPACK's bits differ between processors.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.numerics import half_value
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.jit import kernel

ADDED = (1, 0)
"""Where a factor, below its diagonal, has what was added to each mean square of its span."""
AUTO = -1.0
"""In place of a share: shrink by what the number of tokens warrants."""
TOKEN_FACTOR = 24.0
"""How many tokens of a text say as much as one independent sample would: neighbours are alike, and their tails heavy.

On 16,384 tokens this takes 0.6 off the correlations of what enters ffn_down, 0.2 off what enters q, k, v, gate and up.
With half of it 18 of 2,190 tensors and types were more than 1 % worse on text far from the one measured.  A change
raises ``FACTORS_VERSION``.
"""


@kernel
def _shrinkage(correlations, tokens):
    """Share by which off-diagonal correlations ``(n,)`` are likely noise of a mean over ``tokens``.

    Ledoit and Wolf 2004, for correlations as in Schaefer and Strimmer 2005: the expected square of what is noise,
    ``(1 - r^2)^2 / n`` each, over the square of what was found.
    """
    if tokens <= 0.0:
        return 1.0
    if np.isinf(tokens):
        return 0.0
    noise = found = 0.0
    for i in range(len(correlations)):
        r = np.float64(half_value(correlations[i]))
        noise += (1.0 - r * r) * (1.0 - r * r)
        found += r * r
    if found == 0.0:
        return 1.0
    return min(1.0, TOKEN_FACTOR * noise / (tokens * found))


@kernel
def _moments(correlations, diag, damp, keep, m):
    """Lower triangle of the moments, off the diagonal times ``keep``; ``damp`` times the mean comes on the diagonal.

    Returns:
        What came on the diagonal.

    """
    n = len(diag)
    mean = 0.0
    for i in range(n):
        mean += np.float64(diag[i])
    mean /= n
    if mean == 0.0:
        mean = 1.0
    at = 0
    for i in range(n):
        root = keep * np.sqrt(np.float64(diag[i]))
        for j in range(i):
            m[i, j] = (root * np.sqrt(np.float64(diag[j]))) * np.float64(half_value(correlations[at + j]))
        m[i, i] = np.float64(diag[i]) + damp * mean
        at += i
    return damp * mean


@kernel
def _factorize(m):
    """``R^T`` of ``M = R R^T`` over the lower triangle of ``m`` (n, n), from the last column; whether there is one."""
    for k in range(m.shape[0] - 1, -1, -1):
        pivot = m[k, k]
        if not pivot > 0.0:
            return False
        root = np.sqrt(pivot)
        row = m[k]
        for i in range(k):
            row[i] /= root
        row[k] = root
        for j in range(k):
            by, other = row[j], m[j]
            for i in range(j + 1):
                other[i] -= by * row[i]
    return True


@kernel
def factorize(correlations, diag, tokens, damp, shrink, factors, failed):
    """Factors ``A`` of each block of 256 columns.

    Args:
        correlations: (n_packed,) uint16 bits of halves, as ``qxmix.container.moments`` packs them.
        diag: (n_cols,) float32 mean squares.
        tokens: how many tokens the correlations were measured on.
        damp: share of the block's mean square that is added to each.
        shrink: share that is taken off the correlations, or ``AUTO``.
        factors: (n_blocks, 256, 256) float32, written: column k of block b has above the diagonal what the errors of
            the columns before do to it, on it the root of the pivot, zero elsewhere but for ``ADDED``.
        failed: (1,) int64, written, as what returns something needs numba: the first block that is not positive
            definite, after which the factors are unset, or -1.

    """
    at, failed[0] = 0, -1
    for block in range(factors.shape[0]):
        of = SPAN * block
        n = min(SPAN, len(diag) - of)
        size = n * (n - 1) // 2
        part = correlations[at : at + size]
        at += size
        keep = 1.0 - (_shrinkage(part, tokens) if shrink < 0.0 else shrink)
        m = np.empty((n, n), np.float64)
        added = _moments(part, diag[of : of + n], damp, keep, m)
        if not _factorize(m):
            failed[0] = block
            return
        factor = factors[block]
        for j in range(SPAN):
            for k in range(SPAN):
                factor[j, k] = np.float32(m[k, j] / m[k, k]) if j < k < n else np.float32(0.0)
        for k in range(n):
            factor[k, k] = np.float32(m[k, k])
        factor[ADDED] = np.float32(added)


@kernel
def products(correlations, diag, tokens, x, y):
    """``x M y`` and ``y M y``, summed over rows ``x`` and ``y`` (n_rows, n_cols), for the moments M of ``factorize``.

    The correlations are shrunk by what the number of tokens warrants; nothing is added to the diagonal.
    """
    n_cols, at = len(diag), 0
    xy = yy = 0.0
    for of in range(0, n_cols, SPAN):
        n = min(SPAN, n_cols - of)
        size = n * (n - 1) // 2
        part = correlations[at : at + size]
        at += size
        m = np.empty((n, n), np.float64)
        _moments(part, diag[of : of + n], 0.0, 1.0 - _shrinkage(part, tokens), m)
        for r in range(x.shape[0]):
            for i in range(n):
                my = mx = 0.0
                for j in range(i):
                    my += m[i, j] * np.float64(y[r, of + j])
                    mx += m[i, j] * np.float64(x[r, of + j])
                xi, yi = np.float64(x[r, of + i]), np.float64(y[r, of + i])
                yy += yi * (m[i, i] * yi + 2.0 * my)
                xy += xi * (m[i, i] * yi + my) + mx * yi
    return xy, yy
