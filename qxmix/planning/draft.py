"""What is decided about a tensor before its place in the output is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qxmix.container.model import TensorInfo
from qxmix.errors import Problem
from qxmix.planning.fallback import Step
from qxmix.planning.kept import Kept
from qxmix.quants import QuantType


@dataclass(frozen=True, slots=True)
class Draft:
    """One tensor of the output without shard and offset, and what there is to say about it."""

    tensor: TensorInfo
    rule: int | None
    requested: QuantType | None
    """The type asked for; of a kept tensor that which it has, None for one that neither engine writes."""
    quant_type: QuantType | None
    """The type it gets; not one that fits where ``error`` is set."""
    reason: str
    kept: Kept | None = None
    """Why neither a rule nor the default gives it a type, so that it is carried over; None where one does."""
    steps: tuple[Step, ...] = ()
    """The fallbacks on the way from ``requested`` to ``type``."""
    error: str = ""
    """Why no type was found that can hold it."""
    importance: str | None = None
    """Name of the imatrix entry for it, or None."""
    entry_problem: Problem | None = None
    """That the entry is another tensor's, or has the wrong size."""
    symmetric: bool = False
    """Whether its levels lie evenly around zero, which asks for no importance."""

    @property
    def encodes(self) -> bool:
        """Whether its weights are encoded; a tensor that has the type already is copied."""
        return not self.kept and self.quant_type is not self.tensor.quant_type

    @property
    def reads_importance(self) -> bool:
        """Whether an encoder of its type reads an importance."""
        reads = self.quant_type is not None and self.quant_type.importance != "ignored"
        return reads and not self.kept and not self.symmetric

    @property
    def type(self) -> str:
        """Upper-case name of the type it gets."""
        return self.quant_type.name if self.quant_type is not None else self.tensor.type


def names_of(drafts: Iterable[Draft]) -> str:
    """The name of one, or how many there are and the first two."""
    names = [d.tensor.name for d in drafts]
    if len(names) == 1:
        return names[0]
    return f"{len(names):,} tensors ({names[0]}, {names[1]}{', ...' if len(names) > 2 else ''})"  # noqa: PLR2004
