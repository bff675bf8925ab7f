"""Losses of a base while parts of it are replaced: by divergence for models that predict, by cosine for encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from qxmix.container.model import ModelHeader
from qxmix.engines.chunks import cut, refuse_short
from qxmix.engines.embed import ENGINE, distances, embed, is_encoder, lines_of
from qxmix.engines.library import PACKAGES
from qxmix.engines.resident import Resident
from qxmix.quants import Engine

if TYPE_CHECKING:
    from qxmix.measurement.model import Metric


class Passage(NamedTuple):
    """The text that losses are measured on, and how it is run."""

    text: bytes
    n_ctx: int
    """Tokens per chunk, or the most tokens of a line."""
    first_chunk: int
    """Chunks (or lines) to skip."""
    n_chunks: int | None
    """Chunks (or lines) to run; None for all that are left."""
    n_ubatch: int
    n_threads: int


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss and its standard error over positions or lines."""

    value: float
    error: float


class Scorer(Protocol):
    """A base in memory."""

    metric: Metric
    engine: Engine
    n_ubatch: int
    """Tokens that the engine computes at a time."""
    n_chunks: int
    """Chunks (or lines) of one pass."""
    tokens: tuple[NDArray[np.int32], ...]
    """Of each chunk; empty of an encoder, which takes lines."""

    def keep(self) -> Iterator[int]:
        """Run the base; yields after each chunk."""

    def loss(self) -> Loss:
        """Loss of the model as it is now."""

    def is_base(self) -> bool:
        """Whether the model as it is now gives the base's results, to the bit."""

    def swapped(self, contents: Mapping[str, Iterable[tuple[int, bytes]]]) -> AbstractContextManager[None]:
        """Replace tensors inside the block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_scorer(header: ModelHeader, passage: Passage, engine: Engine | None) -> Scorer:
    """Load a base.

    Args:
        header: of the base.
        passage: the text and how it is run.
        engine: who runs it; None: ik_llama.cpp for models that predict, llama.cpp for encoders.

    Raises:
        ModelFileError: the text does not do.
        RunError: the engine refuses the model.

    """
    kind = _CosineScorer if is_encoder(header) else KldScorer
    return kind(header, passage, engine)


def engine_version(engine: Engine) -> str:
    """Version of the package that carries an engine."""
    return version(PACKAGES[engine][1])


class _Prepared(Resident):
    """A model that has read the text; it ends where that does not do."""

    tokens: tuple[NDArray[np.int32], ...] = ()

    def __init__(self, header: ModelHeader, passage: Passage, engine: Engine, n_ubatch: int) -> None:
        super().__init__(engine, header, n_ctx=passage.n_ctx, n_ubatch=n_ubatch, n_threads=passage.n_threads)
        self.n_ubatch = n_ubatch
        try:
            self._prepare(passage)
        except BaseException:
            self.close()
            raise

    def _prepare(self, passage: Passage) -> None:
        raise NotImplementedError


class KldScorer(_Prepared):
    """Loss is the mean divergence of the next token."""

    metric: Metric = "kld"

    def __init__(self, header: ModelHeader, passage: Passage, engine: Engine | None) -> None:
        refuse_short(passage.text, passage.n_ctx)
        super().__init__(header, passage, engine or "ik_llama.cpp", passage.n_ubatch)

    def _prepare(self, passage: Passage) -> None:
        self._cut = cut([self], passage.text, passage.n_ctx, passage.n_chunks, first=passage.first_chunk)
        self.n_chunks = len(self._cut.tokens)
        self.tokens = tuple(self._cut.tokens)

    def keep(self) -> Iterator[int]:
        """Run the base on each chunk."""
        return self.keep_chunks(self._cut)

    def loss(self) -> Loss:
        """Mean divergence over all scored positions."""
        return _mean(self.kld())


class _CosineScorer(_Prepared):
    """Loss is the mean of 1 - cosine between the base's embedding of a line and ours."""

    metric: Metric = "cosine"

    def __init__(self, header: ModelHeader, passage: Passage, engine: Engine | None) -> None:
        super().__init__(header, passage, engine or ENGINE, passage.n_ctx)

    def _prepare(self, passage: Passage) -> None:
        self._lines = lines_of(self, passage.text, passage.n_ctx, passage.first_chunk, passage.n_chunks)
        self.n_chunks = len(self._lines)
        self._base: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def keep(self) -> Iterator[int]:
        """Embed each line."""
        rows = []
        for i, line in enumerate(self._lines):
            rows.append(embed(self, line))
            yield i
        self._base = np.stack(rows)

    def loss(self) -> Loss:
        """Mean over all lines."""
        return _mean(distances(self._base, np.stack([embed(self, line) for line in self._lines])))

    def is_base(self) -> bool:
        """Whether the first line is embedded as by the base."""
        return bool(np.array_equal(embed(self, self._lines[0]), self._base[0]))


def _mean(values: NDArray[np.float64]) -> Loss:
    return Loss(float(values.mean()), float(values.std() / np.sqrt(max(1, values.size - 1))))
