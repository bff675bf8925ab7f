"""The values of the solver: what can be chosen, and what was."""

from __future__ import annotations

from typing import NamedTuple


class Option(NamedTuple):
    """One way to store the tensors of an item."""

    type: str
    """Upper-case name; of a pinned item the one that its first tensor gets."""
    nbytes: int
    """Bytes in the file, the padding after each tensor included."""
    loss: float
    """Predicted loss, in the unit of the whole: only sums over items mean something."""


class Item(NamedTuple):
    """Tensors that get one type together, and their options."""

    names: tuple[str, ...]
    options: tuple[Option, ...]
    """By rising bytes, and none that another one beats in both bytes and loss."""


class Solution(NamedTuple):
    """One option of each item."""

    chosen: tuple[Option, ...]
    """For each item, in order."""
    nbytes: int
    loss: float
    bound: float
    """No choice within the budget loses less than this: the optimum of the linear relaxation."""
    proven: float
    """As ``bound``, after the search; equal to ``loss`` where that is proven to be the least there is."""
    chosen_by: str = ""
    """A sentence, where it was not chosen to lose least."""

    @property
    def gap(self) -> float:
        """How far the loss may at most be above the least possible one, as a share of it."""
        return self.loss / self.proven - 1 if self.proven > 0 else 0.0


class Found(NamedTuple):
    """A choice on the way to a solution."""

    chosen: tuple[int, ...]
    """For each item the index of its option."""
    loss: float
    proven: float
    """No choice of the problem at hand loses less."""


def undominated(options: list[Option]) -> tuple[Option, ...]:
    """By rising bytes, without those that cost as much as a better one; among equals the first stays."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.nbytes, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return tuple(kept)
