"""Several importance matrices of one model as one, as if all their texts had been measured together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix
from qxmix.container.source import show, show_path
from qxmix.errors import ModelFileError, Problem
from qxmix.importance.convert import CHUNK_SIZE, as_tokens


@dataclass(frozen=True, slots=True)
class Merged:
    """The sum, and what is to be said about it."""

    imatrix: Imatrix
    """Its path is empty: it is no file yet."""
    notes: tuple[str, ...]


def merge(matrices: Sequence[Imatrix], chunk_size: int = CHUNK_SIZE) -> Merged:
    """Weight each matrix by what it counted; sums are made in float64.

    Args:
        matrices: At least one, of the same model.
        chunk_size: Tokens per chunk of legacy files, which do not say it; matters only beside files that count tokens.

    Raises:
        ModelFileError: two of them have entries of one name and different sizes.

    """
    if any(m.counts_in == "tokens" for m in matrices):
        matrices = [as_tokens(m, chunk_size) for m in matrices]
    names = dict.fromkeys(name for m in matrices for name in m.entries)
    entries, counts = {}, {}
    for name in names:
        entries[name], counts[name] = _merged_entry(name, [m for m in matrices if name in m.entries])
    first = matrices[0]
    sizes = [m.chunk_size or CHUNK_SIZE for m in matrices]
    n_chunks = ceil(sum(m.n_chunks * size for m, size in zip(matrices, sizes, strict=True)) / sizes[0])
    merged = replace(
        first,
        path=Path(),
        sha256="",
        entries=MappingProxyType(entries),
        datasets=tuple(dict.fromkeys(text for m in matrices for text in m.datasets)),
        n_chunks=n_chunks,
        counts=MappingProxyType(counts),
    )
    return Merged(merged, tuple(_notes(matrices, list(names))))


def _merged_entry(name: str, matrices: Sequence[Imatrix]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values and counts; a matrix that no file has data for keeps importance 1."""
    n_counts = max(m.counts[name].size for m in matrices)
    size = matrices[0].entries[name].size
    for imatrix in matrices:
        if imatrix.entries[name].size != size or imatrix.counts[name].size not in {1, n_counts} or size % n_counts:
            raise ModelFileError(_mismatch(name, matrices[0], imatrix))
    total = np.zeros((n_counts, size // n_counts))
    weight = np.zeros((n_counts, 1))
    for imatrix in matrices:
        count = np.broadcast_to(imatrix.counts[name].astype(np.float64).reshape(-1, 1), weight.shape)
        total += imatrix.entries[name].reshape(total.shape) * count
        weight += count
    mean = np.divide(total, weight, where=weight > 0, out=np.ones_like(total)).astype(np.float32).reshape(-1)
    counts = weight.astype(np.float32).reshape(-1)
    for made in (mean, counts):
        made.flags.writeable = False
    return mean, counts


def _mismatch(name: str, first: Imatrix, other: Imatrix) -> Problem:
    here, there = (f"{m.entries[name].size:,} values for {m.counts[name].size:,} matrices" for m in (other, first))
    text = f"{show(name)} has {here} and in {show_path(first.path)} {there}; merge matrices of the same model"
    return Problem(show_path(other.path), text)


def _notes(matrices: Sequence[Imatrix], names: Sequence[str]) -> Iterator[str]:
    for imatrix in matrices:
        lacking = [name for name in names if name not in imatrix.entries]
        if lacking:
            rest = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
            yield f"{show_path(imatrix.path)} has nothing for {lacking[0]}{rest}: the other files alone decide"
    uncounted = [m for m in matrices if any(_is_coarser(m, n, matrices) for n in names)]
    for imatrix in uncounted:
        yield (
            f"{show_path(imatrix.path)} has no counts per expert: each expert is taken to have seen all its tokens, "
            "as llama-imatrix does, so that it weighs too much"
        )


def _is_coarser(imatrix: Imatrix, name: str, matrices: Sequence[Imatrix]) -> bool:
    counts = imatrix.counts.get(name)
    return counts is not None and counts.size == 1 < max(m.counts[name].size for m in matrices if name in m.counts)
