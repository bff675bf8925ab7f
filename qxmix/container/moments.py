"""Second moments of what enters a tensor: which errors of a row's weights can take each other back.

For the inputs ``a`` of a tensor (one vector of ``n_cols`` per token) the file holds ``M = E[a a^T]`` in diagonal blocks
of 256 columns, as mean squares and correlations::

    M[i, j] = C[i, j] * sqrt(diag[i] * diag[j])        C[i, i] = 1

The file is GGUF with ``general.type`` "moments", ``moments.block_size`` (u32, 256), ``moments.datasets`` (strings),
``moments.chunk_count`` and ``moments.chunk_size`` (u32), and four tensors for each entry NAME, a tensor of the model::

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
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qxmix.container.model import TensorInfo
from qxmix.quants.feedback.options import Feedback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_DAMP = Feedback().damp
"""What is added to the diagonal before a block is factorized, as a share of its mean."""
ROLE = "moments file"


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


def load_moments(path: str | PathLike[str]) -> Moments:
    """Read the header of a moments file and check all of it, values included.

    Every value is read once, a tensor at a time, and let go: about 2 ms for each block of 256 columns, most of them to
    see that it can be factorized with ``DEFAULT_DAMP``.

    Raises:
        ModelFileError: it cannot be read, is no moments file, is damaged or cut off, an entry lacks a part or has one
            of another shape, a value is not finite, a mean square or count is negative, a correlation is outside
            [-1, 1], or a block cannot be factorized.

    """
    # NumPy takes 0.1 s to import: only those who have moments pay for it.
    from qxmix.container.moments_files import read_moments_file  # noqa: PLC0415

    return read_moments_file(Path(path))


def read_second_moments(moments: Moments, name: str) -> SecondMoments:
    """Read the second moments of one tensor; the arrays are copies and may be changed.

    Raises:
        ModelFileError: as :func:`load_moments` does, for this tensor.
        KeyError: the file has no entry ``name``.

    """
    from qxmix.container.moments_files import read_entry  # noqa: PLC0415

    return read_entry(moments.path, name, moments.entries[name])


def read_entry_of(path: str | PathLike[str], name: str, entry: MomentsEntry) -> SecondMoments:
    """Read the second moments of the entry ``name`` of a file, wherever it is; see :func:`read_second_moments`."""
    from qxmix.container.moments_files import read_entry  # noqa: PLC0415

    return read_entry(Path(path), name, entry)


def entry_digest(moments: SecondMoments) -> str:
    """SHA-256, in hex, of everything that an entry says."""
    digest = hashlib.sha256()
    for part in (moments.diag, moments.counts, moments.correlations, moments.correlation_counts):
        digest.update(part.tobytes())
    return digest.hexdigest()


@cache
def _digest_of(path: Path, sha256: str, name: str, entry: MomentsEntry) -> str:  # noqa: ARG001 - part of the key
    return entry_digest(read_entry_of(path, name, entry))


def moments_digest(moments: Moments, name: str) -> str:
    """``entry_digest`` of an entry of a file; read once."""
    return _digest_of(moments.path, moments.sha256, name, moments.entries[name])


def save_moments(
    path: str | PathLike[str],
    entries: Mapping[str, SecondMoments],
    *,
    datasets: tuple[str, ...] = (),
    n_chunks: int = 0,
    chunk_size: int = 0,
) -> None:
    """Write a moments file; under its name only once it is complete.

    ``entries`` may make its values when they are asked for: each is taken twice, and none is kept.

    Raises:
        ModelFileError: an entry is one that :func:`load_moments` refuses, named as it names it.
        OSError: the file cannot be written.

    """
    from qxmix.container.moments_files import write_moments_file  # noqa: PLC0415

    write_moments_file(Path(path), entries, datasets, n_chunks, chunk_size)
