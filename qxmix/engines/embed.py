"""Encoder models (embeddings, rerankers): the lines of a text, their embeddings, and how far those are from a base's.

llama.cpp runs them: ik_llama.cpp 0.1.5 computes BERT wrongly.  On four sentences MiniLM's embeddings have a cosine of
0.80 to 0.94 with those of a plain forward pass in numpy there, and of 0.999999 in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qxmix.container.header import read_header
from qxmix.container.model import ModelHeader
from qxmix.engines.evaluate import Settings, check_types, checked_text
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError
from qxmix.quants import Engine

ENGINE: Engine = "llama.cpp"
"""Who runs encoders, unless somebody else is asked for."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """How far the embeddings of one file are from those of its base: 1 - cosine per line."""

    path: Path
    nbytes: int
    """Bytes of the file, all its shards together."""
    n_lines: int
    mean_distance: float
    mean_distance_error: float
    """Standard error of ``mean_distance`` over lines."""
    median_distance: float
    distance_99: float
    """What 99 % of the lines stay below."""


def is_encoder(header: ModelHeader) -> bool:
    """Whether a model encodes texts rather than predicts them."""
    return header.get(f"{header.architecture}.attention.causal") is False


def evaluate_encoders(
    paths: Sequence[Path],
    text: bytes,
    *,
    base: Path,
    settings: Settings,
    on_line: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Embedded]:
    """Compare the embeddings of each line of ``text`` with those of ``base``, one model in memory at a time.

    Args:
        paths: GGUF files of encoder models; of a model in shards, the first.
        text: UTF-8; lines of nothing, and those longer than ``settings.n_ctx`` tokens, are left out.
        base: the model to compare with.
        settings: ``n_chunks`` and ``first_chunk`` count lines.
        on_line: called with the number of lines that are done and of all, over all models.

    Raises:
        ModelFileError: a file is none that the engine can run, or the text has too few lines.
        RunError: the engine is missing, or gives up.

    """
    text = checked_text(text)
    headers = {path: read_header(path) for path in (base, *paths)}
    check_types(headers, settings.engine)
    with _opened(base, settings) as session:
        lines = lines_of(session, text, settings.n_ctx, settings.first_chunk, settings.n_chunks)
    done = 0
    found = []
    for path in (base, *paths):
        with _opened(path, settings) as session:
            rows = []
            for line in lines:
                rows.append(embed(session, line))
                done += 1
                on_line(done, len(lines) * (1 + len(paths)))
        found.append(np.stack(rows))
    pairs = zip(paths, found[1:], strict=True)
    return [_embedded(path, sum(headers[path].file_nbytes), distances(found[0], ours)) for path, ours in pairs]


def _opened(path: Path, settings: Settings) -> Session:
    return Session(settings.engine, path, n_ctx=settings.n_ctx, n_ubatch=settings.n_ctx, n_threads=settings.n_threads)


def distances(base: NDArray[np.float32], ours: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine (n,) between the rows of two (n, n_embd)."""
    a, b = base.astype(np.float64), ours.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(1 - np.einsum("ij,ij->i", a, b) / norms)


def _embedded(path: Path, n_bytes: int, values: NDArray[np.float64]) -> Embedded:
    error = float(values.std() / np.sqrt(max(1, values.size - 1)))
    median, high = (float(np.quantile(values, q)) for q in (0.5, 0.99))
    return Embedded(path, n_bytes, values.size, float(values.mean()), error, median, high)


def lines_of(session: Session, text: bytes, n_ctx: int, first: int, n_lines: int | None) -> tuple[str, ...]:
    """The lines of a text that hold something and fit into ``n_ctx`` tokens; longer ones are left out.

    Args:
        session: the model whose tokens count.
        text: UTF-8.
        n_ctx: the most tokens of a line.
        first: lines to skip, of those that fit.
        n_lines: how many to take; None for all that are left.

    Raises:
        ModelFileError: there are not so many.

    """
    found: list[str] = []
    wanted = None if n_lines is None else first + n_lines
    for line in text.decode().splitlines():
        if wanted is not None and len(found) == wanted:
            break
        if line.strip() and session.tokenize(line.strip().encode()).size <= n_ctx:
            found.append(line.strip())
    if len(found) < (wanted or first + 1):
        msg = f"the text has {len(found)} lines of at most {n_ctx} tokens, {wanted or first + 1} are needed"
        raise ModelFileError(f"{msg}; take a longer text or fewer --chunks")
    return tuple(found[first:])


def embed(session: Session, line: str) -> NDArray[np.float32]:
    """The pooled embedding (n_embd,) of a line, as the model pools it.

    Raises:
        ModelFileError: it is no direction: zero, or not finite.

    """
    found = session.embedding(line)
    if not np.isfinite(found).all() or not found.any():
        msg = f"{session.engine} computes embeddings from it that are no numbers; the file may be damaged"
        raise ModelFileError.at(session.path, msg)
    return found
