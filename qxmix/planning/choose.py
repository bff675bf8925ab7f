"""Which rule decides each tensor, and the type it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qxmix.planning.facts import MAIN_STACK, count_layers, tensor_facts
from qxmix.planning.importance import has_importance
from qxmix.recipe import conditions, layers
from qxmix.recipe.categories import block_of, category_of, name_parts
from qxmix.recipe.model import DEFAULT
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qxmix.container.imatrix import Imatrix
    from qxmix.container.model import ModelHeader, TensorInfo
    from qxmix.recipe.conditions import Condition, FactValue
    from qxmix.recipe.layers import LayerSelector
    from qxmix.recipe.model import Recipe, Rule


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rules say about one tensor."""

    rule: int | None
    """Index of the rule that decides, or None for the default."""
    type: str
    """Upper-case name of the type asked for, or ``keep``."""
    steps: tuple[str, ...] = ()
    """What ``adjust`` changed, in order."""


@dataclass(slots=True)
class Chooser:
    """Rules seen against one model.  Whatever depends on the model alone is worked out once."""

    recipe: Recipe
    header: ModelHeader
    facts: dict[str, FactValue]
    """Of the model."""
    quantizable: Sequence[bool]
    """For each tensor whether the engines quantize it."""
    by_name: bool
    """Count tensors by block number and name instead of by place in the file."""
    count_overridden: bool
    _numbers: dict[object, dict[int, int]] = field(default_factory=dict)
    _totals: dict[object, int] = field(default_factory=dict)
    _tensor_facts: dict[int, dict[str, FactValue]] = field(default_factory=dict)
    imatrix: Imatrix | None = None
    """What ``has_importance`` asks."""

    def choose(self, candidates: Iterable[int]) -> dict[int, Choice]:
        """Decide the tensors whose indices are given; those that are not quantizable only by rules with ``force``."""
        undecided = list(candidates)
        chosen: dict[int, Choice] = {}
        for unit in dict.fromkeys(rule.unit for rule in self.recipe.rules):
            rules = [
                (i, rule, when)
                for i, rule in enumerate(self.recipe.rules)
                if rule.unit == unit and (when := conditions.reduce(rule.when, self.facts)) is not None
            ]
            counted = None if self.count_overridden else undecided
            rest = []
            for index in undecided:
                decided = self._first(index, rules, counted)
                if decided is None:
                    rest.append(index)
                else:
                    chosen[index] = decided
            undecided = rest
            # The next unit counts what this one left.
            self._numbers.clear()
        for index in undecided:
            if self.quantizable[index]:
                chosen[index] = Choice(None, self.recipe.default)
        return chosen

    def applies(self, rule: Rule) -> bool:
        """Whether the rule's ``when`` allows a model like this; one for other models need not select anything."""
        return conditions.reduce(rule.when, self.facts) is not None

    def selected(self, rule: Rule, candidates: Iterable[int]) -> list[int]:
        """Indices of the tensors that a rule selects, whatever rules before it say."""
        when = conditions.reduce(rule.when, self.facts)
        if when is None:
            return []
        return [i for i in candidates if self._selects(rule, when, i, None)]

    def _first(self, index: int, rules: list[tuple[int, Rule, Condition]], counted: list[int] | None) -> Choice | None:
        for number, rule, when in rules:
            if (self.quantizable[index] or rule.force) and self._selects(rule, when, index, counted):
                return self._adjusted(number, rule, index, counted)
        return None

    def _selects(self, rule: Rule, when: Condition, index: int, counted: list[int] | None) -> bool:
        name = self.header.tensors[index].name
        return (
            (not rule.categories or category_of(name) in rule.categories)
            and (not when or conditions.holds(when, self._facts_of(index, self.recipe.default)))
            and (rule.match is None or search(rule.match, name, rule.where))
            and (rule.layers is None or self._in_layers(rule, rule.layers, index, counted))
        )

    def _adjusted(self, number: int, rule: Rule, index: int, counted: list[int] | None) -> Choice:
        current, steps = self._type(rule.type), []
        for i, step in enumerate(rule.adjust):
            if not conditions.holds(step.when, self._facts_of(index, current)):
                continue
            if step.layers is not None and not self._in_layers(rule, step.layers, index, counted):
                continue
            if (new := self._type(step.type)) != current:
                steps.append(f"adjust[{i}] {current} -> {new}")
                current = new
        return Choice(number, current, tuple(steps))

    def _type(self, name: str) -> str:
        return self.recipe.default if name == DEFAULT else name

    def _facts_of(self, index: int, type_so_far: str) -> dict[str, FactValue]:
        facts = self._tensor_facts.get(index)
        if facts is None:
            tensor = self.header.tensors[index]
            weighted = has_importance(tensor, self.imatrix, self.recipe.engines)
            facts = {**self.facts, **tensor_facts(tensor), "has_importance": weighted}
            self._tensor_facts[index] = facts
        facts["type"] = type_so_far
        return facts

    def _in_layers(self, rule: Rule, selector: LayerSelector, index: int, counted: list[int] | None) -> bool:
        by_layer = selector.by == "layer" or (
            selector.by == "layer_if_experts" and self.facts["n_expert"] not in (0, 1)
        )
        parts = name_parts(self.header.tensors[index].name)
        i = parts.layer if by_layer else self._ordinals(rule, counted).get(index)
        return i is not None and layers.holds(selector, i, self._total(selector.of, parts.stack))

    def _ordinals(self, rule: Rule, counted: list[int] | None) -> dict[int, int]:
        """Place of each tensor among the quantizable ones that match and category of the rule select."""
        key = (rule.match, rule.categories)
        found = self._numbers.get(key)
        if found is None:
            tensors = self.header.tensors
            indices = [
                i
                for i in (range(len(tensors)) if counted is None else counted)
                if self.quantizable[i]
                and (not rule.categories or category_of(tensors[i].name) in rule.categories)
                and (rule.match is None or search(rule.match, tensors[i].name, rule.where))
            ]
            if self.by_name:
                indices.sort(key=lambda i: name_order(tensors[i]))
            found = self._numbers[key] = {index: place for place, index in enumerate(indices)}
        return found

    def _total(self, of: tuple[str, ...], stack: str) -> int:
        """All tensors of the categories, kept ones included, or else the layers.

        Those of the model are what it states, as the engines count them, and those of any other stack are counted.
        """
        key = of or (stack if stack != MAIN_STACK else "")
        found = self._totals.get(key)
        if found is None:
            n_layer = self.facts["n_layer"]
            assert isinstance(n_layer, int)
            if of:
                found = sum(category_of(t.name) in of for t in self.header.tensors)
            else:
                found = count_layers(self.header.tensors, stack) if stack not in ("", MAIN_STACK) else n_layer
            self._totals[key] = found
        return found


def name_order(tensor: TensorInfo) -> tuple[int, bytes]:
    """llama.cpp's order: tensors outside of blocks first, then by block, each by the bytes of the name."""
    layer = block_of(tensor.name)
    return -1 if layer is None else layer, tensor.name.encode()
