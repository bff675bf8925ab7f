"""From one file format's way of counting to the other's, and what is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from qxmix.importance.coverage import unseen_matrices

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix
    from qxmix.container.imatrix_write import Format

CHUNK_SIZE = 512
"""Tokens per chunk where a file does not say: what llama-imatrix takes by default."""


def as_tokens(imatrix: Imatrix, chunk_size: int = CHUNK_SIZE) -> Imatrix:
    """Count in tokens, as GGUF matrices do; chunks of a legacy file are taken to have ``chunk_size`` of them."""
    chunk_size = imatrix.chunk_size or chunk_size
    if imatrix.counts_in == "tokens":
        return replace(imatrix, chunk_size=chunk_size)
    counts = {name: count * np.float32(chunk_size) for name, count in imatrix.counts.items()}
    return replace(imatrix, counts=counts, counts_in="tokens", chunk_size=chunk_size)


def as_chunks(imatrix: Imatrix) -> Imatrix:
    """Count in whole chunks, as ``.dat`` files do: one number per entry, that of the matrix that saw most.

    Like llama.cpp, at least 1, so that no entry is divided by 0.
    """
    if imatrix.counts_in == "chunks":
        return imatrix
    size = imatrix.chunk_size or CHUNK_SIZE
    calls = {n: np.float32(max(1, ceil(float(c.max()) / size))).reshape(1) for n, c in imatrix.counts.items()}
    return replace(imatrix, counts=calls, counts_in="chunks")


def converted(imatrix: Imatrix, to: Format, chunk_size: int = CHUNK_SIZE) -> Imatrix:
    """The matrix as a file of format ``to`` holds it."""
    return as_chunks(imatrix) if to == "dat" else as_tokens(imatrix, chunk_size)


def losses(imatrix: Imatrix, to: Format, chunk_size: int = CHUNK_SIZE) -> Iterator[str]:
    """What a file of format ``to`` will not say of the matrix, or says only by assumption; one sentence each."""
    if to == "gguf":
        if imatrix.counts_in == "chunks":
            size = imatrix.chunk_size or chunk_size
            yield f"a .dat counts in chunks: its counts are taken as {size} tokens per chunk (--chunk-size)"
        return
    stacked = [name for name, count in imatrix.counts.items() if count.size > 1]
    if stacked:
        unseen = sum(len(unseen_matrices(imatrix, name)) for name in stacked)
        more = f", and that {unseen:,} of them saw nothing (their importance is 1 everywhere)" if unseen else ""
        yield f"a .dat has no counts per expert: those of {len(stacked):,} tensors are lost{more}"
    if len(imatrix.datasets) > 1:
        yield f"a .dat names one text: {len(imatrix.datasets) - 1:,} more are lost"
    if imatrix.counts_in == "tokens":
        yield "a .dat counts in chunks: tokens per chunk are lost"
