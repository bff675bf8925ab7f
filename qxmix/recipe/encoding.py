"""The keys of a recipe that say how an encoder does its work: ``feedback`` and ``scale``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from qxmix.errors import Place, Problem
from qxmix.quants import find
from qxmix.quants.feedback.options import Feedback
from qxmix.recipe.remedies import unknown_type

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

Factor = float | Literal["auto"]
"""A number in place of the engine's own; ``auto``: the one with the least error on a sample of the tensor's rows."""
Scales = Mapping[str, Factor]
"""Upper-case type to its factor; under ``""`` that of all types that are not named."""


def factor_of(scales: Scales | None, type_name: str, base: str = "") -> Factor | None:
    """The factor for a type, or for one that is a permutation of ``base``; None where nothing is said of it."""
    names = (type_name, base, "") if base else (type_name, "")
    return next((scales[n] for n in names if n in scales), None) if scales else None


def read_feedback(node: Node | None) -> Feedback | Literal[False] | None:
    """``true``, ``false`` or how; None where there is no node."""
    if node is None or node.value is None:
        return None
    if not isinstance(node.value, dict):
        return Feedback() if node.value else False
    damp, shrink = (node.value[key].value if key in node.value else None for key in ("damp", "shrink"))
    return Feedback(
        Feedback().damp if damp is None else float(str(damp)),
        None if shrink in (None, "auto") else float(str(shrink)),
    )


def read_scales(file: str, node: Node | None, path: str, problems: list[Problem]) -> Scales | None:
    """One factor, or factors by type; None where there is no node.  A type that does not exist is a problem."""
    if node is None or node.value is None:
        return None
    if not isinstance(node.value, dict):
        return {"": _factor(node)}
    found: dict[str, Factor] = {}
    for name, value in node.value.items():
        known = find(name)
        if known is None:
            problems.append(Problem(Place(file, value.line, f"{path}.{name}"), unknown_type(name)))
        found[known.name if known else name] = _factor(value)
    return found


def _factor(node: Node) -> Factor:
    return "auto" if node.value == "auto" else float(str(node.value))
