"""The lines of a text and their embeddings by an encoder model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.errors import ModelFileError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.engines.session import Session


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
        raise ModelFileError(Problem(str(session.path), msg))
    return found
