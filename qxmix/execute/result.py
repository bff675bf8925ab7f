"""What an apply reports while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qxmix.errors import Problem
from qxmix.execute.deviation import Deviation
from qxmix.execute.scales import Flaw

Phase = Literal["kernels", "verify", "compare", "work", "check", "sync", "done", "hash", "derive", "measure", "lattice"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an apply is."""

    phase: Phase
    """Kernels loaded or compiled, interrupted work re-read, older outputs looked at, tensors made, the
    finished files read once more, disk waited for; of a verification: digests compared, tensors made again, lattices
    looked at; two files held against each other."""
    done_nbytes: int
    """Bytes of the model that need no more work."""
    total_nbytes: int
    """Bytes of all tensors of the model."""
    text: str = ""
    """The tensor last finished, or the types whose kernels are compiled before it can begin."""
    effort: float | None = None
    """The share of the work that is done, 0 to 1, where types take unequal time; None: that of the bytes."""

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return self.done_nbytes / max(1, self.total_nbytes) if self.effort is None else min(1.0, self.effort)


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TensorResult:
    """One tensor as it was written."""

    name: str
    source_type: str
    type: str
    action: Literal["copy", "encode"]
    nbytes: int
    """Bytes of data in the output."""
    sha256: str
    """Digest of its data, in hex, over its leaves (see :mod:`qxmix.execute.digests`)."""
    source_sha256: str
    """The same of the data it was made from."""
    deviation: Deviation | None
    """How far the weights moved, if that was asked for and they were encoded."""
    flaw: Flaw | None = None
    """The first number that is not finite in a tensor that was carried over."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished apply."""

    paths: tuple[Path, ...]
    """The output files."""
    nbytes: int
    """Bytes of all of them."""
    tensors: tuple[TensorResult, ...]
    """In output order."""
    source_sha256: str
    """Root digest of the model's tensors, in hex."""
    data_sha256: str
    """Root digest of the output's tensors, in hex."""
    n_resumed: int
    """Leaves that an earlier, interrupted apply had made."""
    n_reused: int
    """Tensors taken over from an older output or the cache."""
    seconds: float
    """Wall time of the whole apply."""
    sync_seconds: float
    """The part of it that waited for the disk at the end."""
    problems: tuple[Problem, ...]
    """What came up while running and did not stop it."""


def carried_over(tensor: TensorResult) -> Problem:
    """The warning for a tensor with a number that is not finite."""
    text = (
        f"{tensor.flaw}; the tensor is carried over as the model has it, and an engine computes NaN from it."
        " Convert the model again"
    )
    return Problem(tensor.name, text, "warning", "not-finite")
