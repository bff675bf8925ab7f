"""Which stacked matrices, a mixture's experts, the text of an importance matrix reached, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix

THIN_SHARE = 0.05
"""An expert that saw less than this share of what the experts of its tensor saw on average is thin."""

_MOST_NAMED = 8
"""Experts that are named of one tensor before the rest is counted."""


class Coverage(NamedTuple):
    """How far the text reached the experts of one tensor."""

    entry: str
    n_matrices: int
    mean: float
    """Tokens per expert on average."""
    unseen: tuple[int, ...]
    """Experts that saw nothing: their importance is 1 everywhere."""
    thin: tuple[int, ...]
    """Experts that saw something, but less than ``THIN_SHARE`` of the average."""

    @property
    def complete(self) -> bool:
        """Whether no expert is unseen or thin."""
        return not self.unseen and not self.thin


def coverage(imatrix: Imatrix) -> Iterator[Coverage]:
    """The coverage of every entry that has counts per expert, in the order of the file.

    Legacy files have none, nor have tensors that are not stacked.
    """
    for entry, counts in imatrix.counts.items():
        if counts.size > 1:
            mean = float(counts.mean(dtype="f8"))
            thin = tuple(i for i, n in enumerate(counts.tolist()) if 0 < n < THIN_SHARE * mean)
            yield Coverage(entry, counts.size, mean, unseen_matrices(imatrix, entry), thin)


def all_unseen(imatrix: Imatrix, entry: str) -> bool:
    """Whether no matrix of an entry saw anything, so that it says nothing."""
    counts = imatrix.counts.get(entry)
    return counts is not None and not counts.any()


def numbers(indices: Sequence[int]) -> str:
    """``3, 7, 12``; of many the first ones."""
    more = f" and {len(indices) - _MOST_NAMED:,} more" if len(indices) > _MOST_NAMED else ""
    return ", ".join(map(str, indices[:_MOST_NAMED])) + more


def unseen_matrices(imatrix: Imatrix, entry: str) -> tuple[int, ...]:
    """Indices of the matrices of an entry that saw nothing."""
    counts = imatrix.counts.get(entry)
    return () if counts is None else tuple(i for i, n in enumerate(counts.tolist()) if n == 0)
