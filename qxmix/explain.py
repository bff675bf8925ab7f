"""Why one tensor of a plan becomes what it becomes: every rule that was tried, and what came after."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from qxmix.container.source import show
from qxmix.errors import PlanError
from qxmix.planning import bits
from qxmix.planning.gate import kept_by_recipe, never_quantized, unreadable
from qxmix.planning.make import make_chooser
from qxmix.planning.view import ModelView
from qxmix.recipe.categories import category_of, name_parts

if TYPE_CHECKING:
    from qxmix.planning.choose import Chooser
    from qxmix.planning.kept import Kept
    from qxmix.planning.model import Plan, PlannedTensor
    from qxmix.recipe.model import Rule


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule as it was tried on the tensor."""

    rule: Rule
    why_not: str
    """The key by which it does not select the tensor, and what the tensor has instead; empty where it selects it."""
    decides: bool
    """Whether it is the first that selects it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole way of one tensor."""

    tensor: PlannedTensor
    gate: Kept | None
    """Why no rule is asked, or only one with ``force``; None where the engines quantize it."""
    tried: tuple[Tried, ...]
    """All rules in order; none where no rule is asked."""


def explain(plan: Plan, name: str) -> Explanation:
    """Follow one tensor through a plan.

    Args:
        plan: The plan.
        name: The tensor's name, with or without ``.weight``.

    Raises:
        PlanError: the model has no tensor of this name.

    """
    index = _find(plan, name)
    tensor = plan.tensors[index]
    source, recipe = tensor.source, plan.recipe
    by_recipe = kept_by_recipe(source, recipe)
    gate = by_recipe or never_quantized(source, recipe.engines, plan.header.architecture)
    asked = not by_recipe and not unreadable(source)
    return Explanation(tensor, gate, tuple(_tried(plan, index, gate)) if asked else ())


def _find(plan: Plan, name: str) -> int:
    names = [t.name for t in plan.tensors]
    for candidate in (name, f"{name}.weight"):
        if candidate in names:
            return names.index(candidate)
    near = get_close_matches(name, names, 1) or [n for n in names if name in n][:1]
    hint = f"; did you mean {show(near[0])}?" if near else "; 'qxmix plan --all' lists them"
    raise PlanError(f"{plan.header.path.name} has no tensor {show(name)}{hint}")


def _tried(plan: Plan, index: int, gate: Kept | None) -> list[Tried]:
    quantizable = bits.from_flags([t.rule is not None or not t.kept for t in plan.tensors])
    chooser = make_chooser(plan.recipe, ModelView(plan.header), quantizable, imatrix=plan.imatrix)
    decided = plan.tensors[index].rule
    return [
        Tried(rule, _why_not(chooser, plan, rule, index, gate), number == decided)
        for number, rule in enumerate(plan.recipe.rules)
    ]


def _why_not(chooser: Chooser, plan: Plan, rule: Rule, index: int, gate: Kept | None) -> str:
    """The first key of the rule that the tensor does not meet."""
    category = category_of(plan.tensors[index].name)
    # Texts that need work to be made are made when their test has failed.
    tests: tuple[tuple[bool, str], ...] = (
        (bool(rule.categories) and category not in rule.categories, f"category: it is {category}"),
        (not chooser.has_name(rule, index), "match: not in its name"),
        (not chooser.applies(rule), "when: the model is another kind"),
        (bool(gate) and not rule.force, "force: without it the engines' choice to keep it stands"),
        (not chooser.meets(rule, index), "when: the tensor is another kind"),
    )
    failed = next((text for fails, text in tests if fails), "")
    return failed or ("" if rule.layers is None else _not_in_layers(chooser, plan, rule, index))


def _not_in_layers(chooser: Chooser, plan: Plan, rule: Rule, index: int) -> str:
    left = _left_for(plan, rule)
    if rule.layers is None or chooser.in_layers(rule, index, left):
        return ""
    if rule.layers.by == "ordinal":
        return f"layers: its place among those of its kind is {chooser.place(rule, index, left)}"
    layer = name_parts(plan.tensors[index].name).layer
    return "layers: it is in none" if layer is None else f"layers: it is in layer {layer}"


def _left_for(plan: Plan, rule: Rule) -> tuple[int, ...]:
    """Tensors that the recipes before the rule's own left to it; what is counted where taken ones are skipped."""
    rules = plan.recipe.rules
    return tuple(
        i
        for i, t in enumerate(plan.tensors)
        if (t.rule is None or rules[t.rule].unit >= rule.unit) and not (t.rule is None and t.kept)
    )
