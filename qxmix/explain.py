"""Why one tensor of a plan becomes what it becomes: every rule that was tried, and what came after."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from qxmix.container.source import show
from qxmix.errors import PlanError
from qxmix.planning import bits
from qxmix.planning.choose import Chooser
from qxmix.planning.gate import kept_by_recipe, never_quantized, unreadable
from qxmix.planning.kept import Kept
from qxmix.planning.make import make_chooser
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.planning.view import ModelView
from qxmix.recipe import conditions
from qxmix.recipe.categories import category_of, name_parts
from qxmix.recipe.layers import LayerSelector, layers_text
from qxmix.recipe.model import Rule


class Tried(NamedTuple):
    """One rule as it was tried on the tensor."""

    rule: Rule
    why_not: str
    """The key by which it does not select the tensor, and what the tensor has instead; empty where it selects it."""
    decides: bool
    """Whether it is the first that selects it."""


class Step(NamedTuple):
    """One step of the deciding rule's ``adjust`` as it was tried."""

    type: str
    """What it would make of the type."""
    so_far: str
    """The type before it."""
    why_not: str
    """The key by which it does not change that; empty where it does."""


class Explanation(NamedTuple):
    """The whole way of one tensor."""

    tensor: PlannedTensor
    gate: Kept | None
    """Why no rule is asked, or only one with ``force``; None where the engines quantize it."""
    tried: tuple[Tried, ...]
    """All rules in order; none where no rule is asked."""
    steps: tuple[Step, ...] = ()
    """What the deciding rule's ``adjust`` tries, in order."""


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
    if not asked:
        return Explanation(tensor, gate, ())
    quantizable = bits.from_flags([t.rule is not None or not t.kept for t in plan.tensors])
    chooser = make_chooser(recipe, ModelView(plan.header), quantizable, imatrix=plan.imatrix)
    tried = tuple(
        Tried(rule, _why_not(chooser, plan, rule, index, gate), number == tensor.rule)
        for number, rule in enumerate(recipe.rules)
    )
    steps = () if tensor.rule is None else tuple(_steps(chooser, plan, recipe.rules[tensor.rule], index))
    return Explanation(tensor, gate, tried, steps)


def _find(plan: Plan, name: str) -> int:
    names = [t.name for t in plan.tensors]
    for candidate in (name, f"{name}.weight"):
        if candidate in names:
            return names.index(candidate)
    near = get_close_matches(name, names, 1) or [n for n in names if name in n][:1]
    hint = f"; did you mean {show(near[0])}?" if near else "; 'qxmix plan --all' lists them"
    raise PlanError(f"{plan.header.path.name} has no tensor {show(name)}{hint}")


def _steps(chooser: Chooser, plan: Plan, rule: Rule, index: int) -> Iterator[Step]:
    """Follow the type of a tensor through the ``adjust`` of the rule that decides it."""
    so_far = chooser.asked(rule.type)
    for step in rule.adjust:
        new = chooser.asked(step.type)
        failing = conditions.unmet(step.when, facts := {**chooser.facts_of(index), "type": so_far})
        if new == so_far:
            why_not = "type: it has that already"
        elif failing:
            why_not = "when: " + ", ".join(conditions.told(test, facts) for test in failing)
        else:
            why_not = "" if step.layers is None else _not_in_layers(chooser, plan, rule, step.layers, index)
        yield Step(new, so_far, why_not)
        so_far = so_far if why_not else new


def _why_not(chooser: Chooser, plan: Plan, rule: Rule, index: int, gate: Kept | None) -> str:
    """The first key of the rule that the tensor does not meet."""
    category = category_of(plan.tensors[index].name)
    if rule.categories and category not in rule.categories:
        return f"category: it is {category}"
    if not chooser.has_name(rule, index):
        return "match: not in its name"
    if not chooser.applies(rule):
        return f"when: the model's {_unmet(chooser, rule, index, of_model=True)}"
    if gate and not rule.force:
        return "force: without it the engines' choice to keep it stands"
    if not chooser.meets(rule, index):
        return f"when: {_unmet(chooser, rule, index, of_model=False)}"
    return "" if rule.layers is None else _not_in_layers(chooser, plan, rule, rule.layers, index)


def _unmet(chooser: Chooser, rule: Rule, index: int, *, of_model: bool) -> str:
    """The facts that are not as the rule's ``when`` asks: those of the model first, which no tensor can mend."""
    facts = chooser.facts_of(index)
    failing = conditions.unmet(rule.when, facts)
    chosen = [test for test in failing if conditions.is_of_model(test)] if of_model else failing
    return ", ".join(conditions.told(test, facts) for test in chosen or failing)


def _not_in_layers(chooser: Chooser, plan: Plan, rule: Rule, selector: LayerSelector, index: int) -> str:
    left = _left_for(plan, rule)
    if chooser.in_layers(rule, selector, index, left):
        return ""
    if not chooser.by_layer(selector):
        return f"layers: its place among those of its kind is {chooser.place(rule, index, left)}"
    layer = name_parts(plan.tensors[index].name).layer
    if layer is None:
        return "layers: it is in none"
    selected = bits.indices(chooser.view.in_layers(selector))
    numbers = {n for i in selected if (n := name_parts(plan.tensors[i].name).layer) is not None}
    return f"layers: it is in layer {layer}, not in {layers_text(numbers) or 'any of this model'}"


def _left_for(plan: Plan, rule: Rule) -> tuple[int, ...]:
    """Tensors that the recipes before the rule's own left to it; what is counted where taken ones are skipped."""
    rules = plan.recipe.rules
    return tuple(
        i
        for i, t in enumerate(plan.tensors)
        if (t.rule is None or rules[t.rule].unit >= rule.unit) and not (t.rule is None and t.kept)
    )
