"""Digests that do not depend on how the work was cut up.

A tensor's data are hashed in *leaves*: equal runs of rows whose number follows from the tensor's shape alone, so the
same digest comes out for any chunk size, worker count or order.  A tensor's digest is the SHA-256 over the SHA-256 of
its leaves in order; a model's *root* is the SHA-256 over the names and digests of its tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from math import ceil
from typing import Generic, NamedTuple, TypeVar

from qxmix.container.model import TensorInfo

T = TypeVar("T")

_LEAF_WEIGHTS = 2 << 20
"""Weights that a leaf aims at: 10 to 100 ms of work, so that many workers share even a small model."""
_LEAF_ROWS = 16
"""Leaves are whole multiples of this many rows: the most that any type interleaves."""
_OPAQUE_NBYTES = 4 << 20
"""Leaf of a tensor whose bytes are not evenly divided into rows: a type that neither engine writes."""


class Leaf(NamedTuple):
    """A run of rows of one matrix, hashed, computed and recorded as one."""

    first_row: int
    """Counted over all stacked matrices."""
    n_rows: int
    """0 for a run of bytes of an opaque tensor."""
    offset: int
    """Bytes from the start of the tensor's data."""
    nbytes: int


def leaves(tensor: TensorInfo, nbytes: int) -> tuple[Leaf, ...]:
    """Cut a tensor whose data are ``nbytes`` long, in whatever type, into its leaves; none crosses a matrix."""
    return _leaves(tensor.n_rows, tensor.n_matrices, tensor.n_cols, nbytes)


@lru_cache(16)  # the tensors of a model have few shapes, and each is cut four times
def _leaves(n_rows: int, n_matrices: int, n_cols: int, nbytes: int) -> tuple[Leaf, ...]:
    if not nbytes:
        return (Leaf(0, 0, 0, 0),)
    n_all = n_rows * n_matrices
    if nbytes % n_all:
        return tuple(Leaf(0, 0, at, min(_OPAQUE_NBYTES, nbytes - at)) for at in range(0, nbytes, _OPAQUE_NBYTES))
    row_nbytes = nbytes // n_all
    n_parts = max(1, ceil(n_rows * n_cols / _LEAF_WEIGHTS))
    step = max(_LEAF_ROWS, ceil(n_rows / n_parts / _LEAF_ROWS) * _LEAF_ROWS)
    return tuple(
        Leaf(matrix + row, count := min(step, n_rows - row), (matrix + row) * row_nbytes, count * row_nbytes)
        for matrix in range(0, n_all, n_rows)
        for row in range(0, n_rows, step)
    )


class Gathered(Generic[T]):
    """What comes of leaves in any order, until it is handed back for a whole tensor at once."""

    def __init__(self, tensors: Sequence[TensorInfo]) -> None:
        self._tensors = tensors
        self._open: dict[int, dict[int, T]] = {}
        self._n_leaves: dict[int, int] = {}

    def add(self, tensor: int, leaf: int, value: T) -> tuple[T, ...] | None:
        """Note a leaf of a tensor by their indices; the tensor's values in order if it was the last, and forget them.

        A leaf that is told again takes the place of what was told before.
        """
        if tensor not in self._n_leaves:
            info = self._tensors[tensor]
            self._n_leaves[tensor] = len(leaves(info, info.nbytes))
        parts = self._open.setdefault(tensor, {})
        parts[leaf] = value
        if len(parts) < self._n_leaves[tensor]:
            return None
        del self._open[tensor]
        return tuple(parts[i] for i in sorted(parts))

    def of(self, tensor: int) -> Collection[int]:
        """Leaves that are there of a tensor that is not whole."""
        return self._open.get(tensor, ())


def combine(leaf_digests: Iterable[bytes]) -> bytes:
    """Digest of a tensor from the digests of its leaves in order."""
    return hashlib.sha256(b"".join(leaf_digests)).digest()


def root(tensors: Iterable[tuple[str, bytes]]) -> str:
    """Digest of a model, in hex, from the names and digests of its tensors in order."""
    whole = hashlib.sha256()
    for name, digest in tensors:
        whole.update(len(name.encode()).to_bytes(8, "little") + name.encode() + digest)
    return whole.hexdigest()
