"""What a plan would lose of tensors whose weights sit on a lattice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from qxmix.errors import Problem, severity_order
from qxmix.measurement.lattice import Lattice
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.planning.silence import is_silenced
from qxmix.quants import get

_MOST_BITS = {False: {"Q4_0": 4, "Q5_0": 5, "Q6_0": 6, "Q8_0": 8}, True: {"Q4_1": 4, "Q5_1": 5}}
"""Types that hold what a smaller one does, with a minimum or without: each 32 weights have a half of their own."""
_TERNARY = {"IQ1_BN": ("TQ1_0", "IQ2_BN", "TQ2_0"), "TQ1_0": ("TQ2_0",), "IQ2_BN": ("TQ2_0",)}
"""Larger ones for what has the levels -1, 0 and 1, by the smallest: the names with BN have one scale per row."""


def with_lattices(plan: Plan, lattices: Iterable[Lattice]) -> Plan:
    """The plan with a warning for each kind of lattice that it may not keep, unless its rule silences that.

    A note says where the weights are not here, so that the model was known by its header alone.
    """
    found = tuple(lattices)
    problems = (*plan.problems, *_lost(plan, found), *_unchecked(plan, found))
    return replace(plan, problems=tuple(sorted(problems, key=severity_order)))


def _unchecked(plan: Plan, lattices: tuple[Lattice, ...]) -> Iterator[Problem]:
    if lattices and plan.header.weights != "here" and "lattice-unchecked" not in plan.recipe.silence:
        text = "holds no weights here, so that the lattices are its own is told by its header alone"
        yield Problem(str(plan.header.path), text, "note", "lattice-unchecked")


def _lost(plan: Plan, lattices: Iterable[Lattice]) -> Iterator[Problem]:
    planned = {t.name: t for t in plan.tensors if t.action == "encode"}
    lost: dict[tuple[str, str, str], list[str]] = {}
    for lattice in lattices:
        tensor = planned.get(lattice.tensor)
        if tensor is None or lattice.type is None or _keeps(tensor, lattice, lattice.type):
            continue
        if not is_silenced(plan.recipe, tensor.rule, "lattice-lost"):
            lost.setdefault((lattice.what, tensor.type, lattice.type), []).append(tensor.name)
    for (what, planned_type, keeper), names in lost.items():
        more = f" (and those of {len(names) - 1:,} more tensors)" if len(names) > 1 else ""
        text = f"its weights{more} sit on a lattice of {what}: {keeper.lower()}{how_kept(keeper)} keeps every one,"
        yield Problem(names[0], f"{text} {planned_type} as planned may not", "warning", "lattice-lost")


def _keeps(tensor: PlannedTensor, lattice: Lattice, keeper: str) -> bool:
    """Whether a tensor is encoded as was tried, or in a larger type with more levels of the same kind."""
    kind = tensor.quant_type
    if kind is None or tensor.feedback is not None:
        return False
    name = kind.base or kind.name
    larger = name in _MOST_BITS[lattice.minimum] and kind.bpw > get(keeper).bpw
    larger = larger and lattice.bits <= _MOST_BITS[lattice.minimum][name]
    if name != keeper and not larger and name not in _TERNARY.get(keeper, ()):
        return False
    if kind.heeds("exhaustive"):
        return tensor.search == "exhaustive"
    # An importance would move what just rounds.
    return tensor.importance is None or kind.importance == "ignored"


def how_kept(keeper: str) -> str:
    """What a rule with the type that keeps a lattice needs besides, as the end of a phrase."""
    kind = get(keeper)
    if kind.heeds("exhaustive"):
        return " with 'search: exhaustive'"
    return "" if kind.importance == "ignored" else " without an importance"
