"""Second moments of what enters a tensor: which errors of a row's weights can take each other back.

For the inputs ``a`` of a tensor (one vector of ``n_cols`` per token) the file holds ``M = E[a a^T]`` in diagonal blocks
of 256 columns, as mean squares and correlations::

    M[i, j] = C[i, j] * sqrt(diag[i] * diag[j])        C[i, i] = 1

The file is GGUF with ``general.type`` "moments", ``moments.block_size`` (u32, 256), ``moments.datasets`` (strings),
``moments.chunk_count`` and ``moments.chunk_size`` (u32), what they were made of (``qxmix.*``, see
:mod:`qxmix.engines.finished`), and four tensors for each entry NAME, a tensor of the model::

    NAME.diag         F32 (n_cols, n_matrices)          mean squares of each stacked matrix (expert)
    NAME.counts       F32 (1, n_matrices)               tokens that each matrix saw; without any its diag is all 1
    NAME.corr         F16 (n_packed, n_correlations)    correlations, packed
    NAME.corr_counts  F32 (1, n_correlations)           tokens that they were measured on

``n_correlations`` is ``n_matrices``, or 1 where all matrices share the stream of inputs (up and gate of the experts).
A packed correlation has the blocks one after the other, of each the strict lower triangle row by row::

    block of columns 256 b ..   C[1,0] | C[2,0] C[2,1] | C[3,0] C[3,1] C[3,2] | ...     n (n - 1) / 2 values

where n is 256 but for a last block that may be shorter; ``n_packed`` is their sum.  Correlations lie in [-1, 1], which
halves hold; the moments themselves reach from 3e-8 to 6e4, and as halves were no longer positive definite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qxmix.container.model import TensorInfo
from qxmix.quants.feedback.options import Feedback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_DAMP = Feedback().damp
"""What is added to the diagonal before a block is factorized, as a share of its mean."""


class SecondMoments(NamedTuple):
    """The second moments of one tensor's inputs, as they stand in a file."""

    diag: NDArray[np.float32]
    """(n_matrices, n_cols) mean squares, finite and not negative."""
    counts: NDArray[np.float32]
    """(n_matrices,) tokens that each matrix saw."""
    correlations: NDArray[np.float16]
    """(n_correlations, n_packed) correlations in [-1, 1], packed; ``n_correlations`` is ``n_matrices`` or 1."""
    correlation_counts: NDArray[np.float32]
    """(n_correlations,) tokens that they were measured on."""


class MomentsEntry(NamedTuple):
    """Where a file has the second moments of a tensor; types and shapes are checked."""

    n_cols: int
    n_matrices: int
    n_correlations: int
    """``n_matrices``, or 1 where all of them share one."""
    diag: TensorInfo
    counts: TensorInfo
    correlations: TensorInfo
    correlation_counts: TensorInfo


@dataclass(frozen=True, slots=True)
class Moments:
    """A file of second moments, read but for its values: workers read those of a tensor, by the path."""

    path: Path
    sha256: str
    """Of the file, in hex."""
    entries: Mapping[str, MomentsEntry]
    """By the name of the model's tensor."""
    datasets: tuple[str, ...]
    """Names of the texts they were measured on, as the file states them."""
    n_chunks: int
    """Chunks of text they were measured on."""
    chunk_size: int
    """Tokens per chunk."""
    digests: Mapping[str, str]
    """``entry_digest`` of each entry, of the values that were checked."""
    counts: Mapping[str, tuple[float, ...]]
    """Tokens that each matrix of an entry saw."""


def entry_digest(moments: SecondMoments) -> str:
    """SHA-256, in hex, of everything that an entry says."""
    digest = hashlib.sha256()
    for part in (moments.diag, moments.counts, moments.correlations, moments.correlation_counts):
        digest.update(part.tobytes())
    return digest.hexdigest()
