"""From the relaxation to whole tensors: the least loss within a budget, to a stated tolerance.

With the price ``p`` of the relaxation every option has a reduced cost: what it loses, plus ``p`` for each of its
bytes, less the least such sum of its item.  A choice within the budget loses the relaxation's bound, plus the reduced
costs of its options, plus ``p`` for each byte that it leaves over.  So options whose reduced cost exceeds the distance
between the bound and the best choice known can be forgotten, and the rest is searched by dynamic programming over
(bytes, reduced cost), cheapest deviations first (the expanding core of Pisinger 1995, with a bounded number of states).
One large tensor can make the relaxation a poor guide, as a part of it is no choice; then each of its options is tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qxmix.solve.model import Found, Item, Solution
from qxmix.solve.relax import Relaxed, Staircase, fixed, relax, staircase

TOLERANCE = 5e-4
"""Share of the loss by which a choice may be above the least possible one before the search goes on."""
_DEEPEST = 3
"""Tensors of which each option is tried."""


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a search is for."""

    budget: int
    tolerance: float

    def is_near(self, bound: float, loss: float) -> bool:
        """Whether nothing above ``bound`` is worth looking for when ``loss`` is known."""
        return bound >= loss * (1 - self.tolerance)


def solve(items: Sequence[Item], budget: int, tolerance: float = TOLERANCE) -> Solution | None:
    """Choose one option of each item so that the sum of the losses is least and the bytes are within the budget.

    Args:
        items: What is to be chosen; of each the options by rising bytes and falling loss.
        budget: Bytes.
        tolerance: Share of the loss by which the result may miss the least possible one.  The search ends earlier
            where its bounded effort is spent; ``proven`` then tells what is certain.

    Returns:
        The choice, or None where not even the smallest options fit.

    """
    stairs = staircase(items)
    relaxed = relax(stairs, budget)
    if relaxed is None:
        return None
    start = _filled(stairs, relaxed.chosen, budget, relaxed.bound)
    found = _least(stairs, relaxed, start, _Goal(budget, tolerance), _DEEPEST)
    found = _filled(stairs, found.chosen, budget, found.proven)
    options = tuple(item.options[k] for item, k in zip(stairs.items, found.chosen, strict=True))
    return Solution(options, sum(o.nbytes for o in options), found.loss, relaxed.bound, found.proven)


def _filled(stairs: Staircase, chosen: tuple[int, ...], budget: int, bound: float) -> Found:
    """The choice, and each step from it that still fits, best first."""
    filled = list(chosen)
    nbytes = sum(item.options[k].nbytes for item, k in zip(stairs.items, filled, strict=True))
    for step in stairs.steps:
        at, to = (stairs.items[step.item].options[k] for k in (filled[step.item], step.to))
        if 0 < to.nbytes - at.nbytes <= budget - nbytes:
            nbytes += to.nbytes - at.nbytes
            filled[step.item] = step.to
    loss = sum(item.options[k].loss for item, k in zip(stairs.items, filled, strict=True))
    return Found(tuple(filled), loss, min(bound, loss))


def _least(stairs: Staircase, relaxed: Relaxed, best: Found, goal: _Goal, depth: int) -> Found:
    """The best choice of this problem or ``best``, and what is proven about this problem's least loss."""
    if relaxed.split is None or goal.is_near(relaxed.bound, best.loss):
        return Found(best.chosen, best.loss, relaxed.bound)
    # NumPy takes 0.1 s to import, and often the steps alone come near enough.
    from qxmix.solve.core import search_core  # noqa: PLC0415

    found = search_core(stairs.items, relaxed, best, goal.budget, goal.tolerance)
    if depth == 0 or goal.is_near(found.proven, found.loss):
        return found
    return _branched(stairs, relaxed.split, found, goal, depth)


def _branched(stairs: Staircase, item: int, best: Found, goal: _Goal, depth: int) -> Found:
    """Try every option of one item, most promising first."""
    branches = []
    for k in range(len(stairs.items[item].options)):
        branch = fixed(stairs, item, k)
        relaxed = relax(branch, goal.budget)
        if relaxed is not None:
            branches.append((relaxed.bound, k, branch, relaxed))
    proven = math.inf
    for bound, k, branch, relaxed in sorted(branches, key=lambda b: b[:2]):
        if goal.is_near(bound, best.loss):
            proven = min(proven, bound)
            continue
        here = _filled(branch, relaxed.chosen, goal.budget, relaxed.bound)
        here = _least(branch, relaxed, here if here.loss < best.loss else best, goal, depth - 1)
        proven = min(proven, here.proven)
        if here.loss < best.loss:
            best = Found(_at(here.chosen, item, k), here.loss, best.proven)
    return Found(best.chosen, best.loss, max(best.proven, proven))


def _at(chosen: tuple[int, ...], item: int, option: int) -> tuple[int, ...]:
    return (*chosen[:item], option, *chosen[item + 1 :])
