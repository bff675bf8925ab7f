"""What a measurement is asked for, and how it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.quants import Engine
from qxmix.recipe.model import Target

if TYPE_CHECKING:
    from qxmix.execute.source import Source
    from qxmix.measure.score import Passage

Phase = Literal["kernels", "errors", "base", "sensitivities", "joint"]

OnProgress = Callable[[Phase, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is; the unit is the phase's own."""

N_ROWS = 1024
"""Rows that are encoded of a tensor."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure."""

    target: Target = "ik_llama.cpp"
    types: tuple[str, ...] = ()
    """As the user gave them; empty for the default."""
    n_rows: int | None = N_ROWS
    """Rows to encode of each tensor, about; None for all."""
    n_workers: int = 1
    """Threads that encode."""
    passage: Passage | None = None
    """The text; None: errors alone."""
    engine: Engine | None = None
    """Who runs the text; None for the best one for the model."""
    tied: bool = False
    """Whether gate and up are swapped together, and q, k and v."""
    bits: tuple[float, ...] = (4.5,)
    """Bits per weight at which tensors are swapped, one pass each."""
    n_measurements: int | None = None
    """The most passes for sensitivities; None for one per tensor or tie group and number of bits."""
    seconds: float | None = None
    """The longest time for sensitivities."""
    joint: bool = True
    """Whether to run whole recipes at the end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured, after everything that could be refused was."""

    header: ModelHeader
    imatrix: Imatrix | None
    settings: Settings
    types: tuple[str, ...]
    """By bits per weight."""
    sources: tuple[Source, ...]
    """The tensors, in file order."""
    allowed: tuple[tuple[str, ...], ...]
    """The types that each tensor may have."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors, in file order."""
        return tuple(source.tensor for source in self.sources)

    @property
    def path(self) -> Path:
        """The model's first shard."""
        return self.header.path
