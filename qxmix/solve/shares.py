"""Budgets for parts of a model beside the one for the whole: so much for the experts, so much for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qxmix.solve.model import Item, Option, Solution
from qxmix.solve.search import TOLERANCE, solve


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that there are for items."""

    total: int | None
    """For all of them; None where only shares are limited, and every item belongs to one."""
    shares: tuple[int, ...] = ()
    """For those of each share."""
    share_of: tuple[int | None, ...] = ()
    """Of each item the index of its share, or None; empty where there are no shares."""

    def holds(self, chosen: Sequence[Option]) -> bool:
        """Whether options, one of each item, keep to all budgets."""
        shares = [0] * len(self.shares)
        for option, share in zip(chosen, self.share_of, strict=True):
            if share is not None:
                shares[share] += option.nbytes
        total = sum(option.nbytes for option in chosen)
        return (self.total is None or total <= self.total) and all(
            used <= cap for used, cap in zip(shares, self.shares, strict=True)
        )

    def grown(self, factor: float) -> Room:
        """The same with so many times the bytes."""
        total = None if self.total is None else int(self.total * factor)
        return Room(total, tuple(int(n * factor) for n in self.shares), self.share_of)


def solve_within(items: Sequence[Item], room: Room, tolerance: float = TOLERANCE) -> Solution | None:
    """Choose an option of each item so that the losses are least and all budgets are kept; None where none can be.

    A share that would get more than its budget is solved by itself at its budget, and the rest has what is left; of
    the relaxation that is the optimum.
    """
    found: dict[int, Option] = {}
    bound = proven = 0.0
    pending = list(range(len(items)))
    left = room.total
    while pending:
        part = _over(items, room, pending, left, tolerance)
        members, budget = part
        solution = solve([items[i] for i in members], budget, tolerance)
        if solution is None:
            return None
        found |= dict(zip(members, solution.chosen, strict=True))
        bound, proven = bound + solution.bound, proven + solution.proven
        left = None if left is None else left - solution.nbytes
        pending = [i for i in pending if i not in found]
    chosen = tuple(found[i] for i in range(len(items)))
    return Solution(chosen, sum(o.nbytes for o in chosen), sum(o.loss for o in chosen), bound, proven)


def _over(
    items: Sequence[Item], room: Room, pending: list[int], left: int | None, tolerance: float
) -> tuple[list[int], int]:
    """The items to solve next, and their budget: those of a share that needs it, or all."""
    members = {s: [i for i in pending if room.share_of[i] == s] for s in range(len(room.shares))}
    members = {s: found for s, found in members.items() if found}
    if left is None:
        share, found = next(iter(members.items()))
        return found, room.shares[share]
    if members:
        whole = solve([items[i] for i in pending], left, tolerance)
        used = dict(zip(pending, whole.chosen, strict=True)) if whole else {}
        for share, found in members.items():
            if not whole or sum(used[i].nbytes for i in found) > room.shares[share]:
                return found, min(left, room.shares[share])
    return pending, left
