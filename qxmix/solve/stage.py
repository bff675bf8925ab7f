"""The resident engine as a stage for swaps: a base whose tensors hold what the types of a recipe leave of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.errors import RunError
from qxmix.execute import stop
from qxmix.execute.source import Source
from qxmix.measure.score import KldScorer, Passage, open_scorer
from qxmix.measure.swap import Swap
from qxmix.planning.importance import find_entry
from qxmix.quants import Engine
from qxmix.recipe.model import KEEP


class ResidentStage:
    """Use it as a context manager; it starts with every tensor as the file has it."""

    def __init__(
        self, header: ModelHeader, imatrix: Imatrix | None, passage: Passage, engines: tuple[Engine, ...]
    ) -> None:
        """Say what to load and what to run."""
        self._header, self._passage = header, passage
        self._sources = {
            t.name: Source(t, header.paths[t.shard], imatrix, find_entry(t, imatrix, engines)[0])
            for t in header.tensors
        }
        self._types: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Load the base.

        Raises:
            RunError: the engine refuses it, or it is an encoder, which has no tokens to pair.

        """
        self._executor = self._stack.enter_context(stop.threads(self._passage.n_threads))
        scorer = self._stack.enter_context(open_scorer(self._header, self._passage, None))
        if not isinstance(scorer, KldScorer):
            self._stack.close()
            raise RunError("--refine is for models that predict tokens; this one encodes texts")
        self._scorer = scorer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is swapped in has to know of an interrupt, after which the engine can be asked nothing more.
        self._stack.__exit__(kind, error, trace)

    def run_base(self, on_chunk: Callable[[], None] = lambda: None) -> None:
        """Keep the base's logits; before everything else."""
        for _ in self._scorer.keep():
            on_chunk()

    def losses(self, types: Mapping[str, str]) -> NDArray[np.float64]:
        """Divergence at each position with these tensors in other types than they have now."""
        if not types:
            return self._scorer.kld()
        with self._scorer.swapped(self._contents(types)):
            found = self._scorer.kld()
        # Behind the block they are as the file has them.
        self._put({name: self._types[name] for name in types if name in self._types})
        return found

    def settle(self, types: Mapping[str, str]) -> None:
        """Let these tensors have these types from now on."""
        self._types |= types
        self._put(types)

    def _put(self, types: Mapping[str, str]) -> None:
        self._stack.enter_context(self._scorer.swapped(self._contents(types)))

    def _contents(self, types: Mapping[str, str]) -> dict[str, Swap]:
        n_ahead = self._passage.n_threads
        return {n: Swap(self._sources[n], t, self._executor, n_ahead) for n, t in types.items() if t != KEEP}
