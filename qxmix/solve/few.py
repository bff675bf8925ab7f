"""Few distinct types: a recipe that is easier to read, and a model that needs fewer kernels."""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.recipe.model import KEEP
from qxmix.solve.model import Item, Solution
from qxmix.solve.search import TOLERANCE
from qxmix.solve.shares import Room, solve_within

ROUGHLY = 0.01
"""Tolerance while sets of types are compared."""


def solve_few(items: Sequence[Item], room: Room, max_types: int | None) -> Solution | None:
    """As :func:`solve_within`, with at most so many types; None where no such choice is found.

    From the types of the free choice the one that is missed least is given up until few enough are left; then each
    is exchanged for any other candidate that makes the choice better.
    """
    solution = solve_within(items, room)
    if solution is None or max_types is None:
        return solution
    types = _types(solution)
    while len(types) > max_types:
        tried = [(rough.loss, kind) for kind in sorted(types) if (rough := _roughly(items, room, types - {kind}))]
        if not tried:
            return None
        types -= {min(tried)[1]}
    return _with(items, room, _exchanged(items, room, types), TOLERANCE)


def solve_alike(items: Sequence[Item], room: Room, solution: Solution, max_types: int | None) -> Solution | None:
    """Roughly what another budget would give; where types are few, with those of the solution."""
    if max_types is None:
        return solve_within(items, room, ROUGHLY)
    return _roughly(items, room, _types(solution))


def _exchanged(items: Sequence[Item], room: Room, types: frozenset[str]) -> frozenset[str]:
    best = _roughly(items, room, types)
    others = {o.type for item in items for o in item.options} - types - {KEEP}
    for kind in sorted(types):
        for other in sorted(others - types):
            swapped = types - {kind} | {other}
            rough = _roughly(items, room, swapped)
            if rough and (best is None or rough.loss < best.loss * (1 - ROUGHLY)):
                return _exchanged(items, room, swapped)
    return types


def _types(solution: Solution) -> frozenset[str]:
    return frozenset(o.type for o in solution.chosen) - {KEEP}


def _roughly(items: Sequence[Item], room: Room, types: frozenset[str]) -> Solution | None:
    return _with(items, room, types, ROUGHLY)


def _with(items: Sequence[Item], room: Room, types: frozenset[str], tolerance: float) -> Solution | None:
    """The choice among these types alone; None where an item has none of them, or they do not fit."""
    allowed = types | {KEEP}
    fewer = [item._replace(options=tuple(o for o in item.options if o.type in allowed)) for item in items]
    return solve_within(fewer, room, tolerance) if all(item.options for item in fewer) else None
