"""The chunks of a text, and several models that run them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.scores import Positions, log_softmax, score
from qxmix.engines.session import ROWS_PER_SLICE, Session
from qxmix.errors import ModelFileError

Reference = NDArray[np.float64] | None


_LONG = 1 << 14
"""Tokens of a context that is worth a look at the text before it is made."""
_TOKENS_PER_BYTE, _EXTRA = 4, 64
"""More than any vocabulary makes: one a byte, unless a normalization writes several for one, and some at the ends."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """A text as ``llama-perplexity`` runs it."""

    tokens: NDArray[np.int32]
    """(n_chunks, n_ctx), each with the start-of-text token in front where the model wants one."""

    @property
    def first_scored(self) -> int:
        """Index of the token in each chunk after which predictions count: models must have some text to go by."""
        return int(self.tokens.shape[1]) // 2


def refuse_short(text: bytes, n_ctx: int) -> None:
    """Let pass a text that may have tokens enough: a long context takes gigabytes before its model can tell.

    Raises:
        ModelFileError: it has too few bytes for them.

    """
    most = _TOKENS_PER_BYTE * len(text) + _EXTRA
    if n_ctx > _LONG and 2 * n_ctx > most:
        msg = f"the text has {len(text):,} bytes, a context of {n_ctx} needs at least {2 * n_ctx} tokens"
        raise ModelFileError(f"{msg}; take a longer text or fewer tokens per chunk")


def cut(sessions: Sequence[Session], text: bytes, n_ctx: int, n_chunks: int | None, *, first: int = 0) -> Chunks:
    """Tokenize ``text`` whole and cut it, in order, into chunks of ``n_ctx`` tokens.

    Args:
        sessions: the models that will run it, at least one.
        text: UTF-8.
        n_ctx: tokens per chunk.
        n_chunks: how many of them; None for all whole ones.
        first: chunks to skip in front of them.

    Raises:
        ModelFileError: the text is too short, or the models do not make the same tokens of it.

    """
    one = sessions[0]
    tokens = one.tokenize(text)
    for other in sessions[1:]:
        if other.bos != one.bos or not np.array_equal(other.tokenize(text), tokens):
            msg = f"it makes other tokens of the text than {one.path}; compare models with the same vocabulary"
            raise ModelFileError.at(other.path, msg)
    # llama-perplexity asks for as much, even if one chunk is all that will be run.
    if tokens.size < 2 * n_ctx:
        msg = f"the text has {tokens.size} tokens, a context of {n_ctx} needs at least {2 * n_ctx}"
        raise ModelFileError(f"{msg}; take a longer text or fewer tokens per chunk")
    n_whole = tokens.size // n_ctx
    if first >= n_whole:
        msg = f"the text has no chunk {first}: it has {n_whole}, counted from 0; give a smaller --first-chunk"
        raise ModelFileError(msg)
    if first + (n_chunks or 1) > n_whole:
        which = f"{n_chunks}" if n_chunks and not first else f"{first + (n_chunks or 1)} (--first-chunk and --chunks)"
        msg = f"the text has {n_whole} chunks of {n_ctx} tokens, not {which}"
        raise ModelFileError(f"{msg}; take a longer text or fewer --chunks")
    n_chunks = n_chunks or n_whole - first
    chunks = tokens[first * n_ctx : (first + n_chunks) * n_ctx].reshape(n_chunks, n_ctx).copy()
    if one.bos is not None:
        chunks[:, 0] = one.bos
    return Chunks(chunks)


def score_chunk(
    tokens: NDArray[np.int32], first_scored: int, sessions: Sequence[Session], base: Session | None
) -> tuple[list[Positions], Positions | None]:
    """Run one chunk in every session and score it, a few rows of logits at a time.

    Args:
        tokens: (n_ctx,) the chunk.
        first_scored: index of the token after which predictions count.
        sessions: the models to score.
        base: the model whose distribution they are compared with, or None.

    Returns:
        The positions of each session, and those of the base.

    Raises:
        RunError: an engine gives up.
        ModelFileError: an engine computes logits that are no numbers.

    """
    targets = tokens[first_scored + 1 :]
    # Each call returns when the chunk is computed: two engines at once would fight for the processors.
    base_rows = _checked(base, tokens, first_scored) if base else None
    streams = [_checked(session, tokens, first_scored) for session in sessions]
    parts: list[list[Positions]] = [[] for _ in sessions]
    base_parts: list[Positions] = []
    for start in range(0, targets.size, ROWS_PER_SLICE):
        wanted = targets[start : start + ROWS_PER_SLICE]
        reference: Reference = None
        if base_rows is not None:
            reference = log_softmax(next(base_rows))
            base_parts.append(score(reference, wanted))
        for mine, rows in zip(parts, streams, strict=True):
            mine.append(score(log_softmax(next(rows)), wanted, reference))
    return [Positions.joined(mine) for mine in parts], Positions.joined(base_parts) if base else None


def _checked(session: Session, tokens: NDArray[np.int32], first_row: int) -> Iterator[NDArray[np.float32]]:
    rows = session.logits(tokens, first_row)

    def finite() -> Iterator[NDArray[np.float32]]:
        for some in rows:
            if not np.isfinite(some).all():
                msg = f"{session.engine} computes logits from it that are no numbers; the file may be damaged"
                raise ModelFileError.at(session.path, msg)
            yield some

    return finite()
