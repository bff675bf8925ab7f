"""Which rule decides each tensor, and the type it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING

from qxmix.planning.facts import MAIN_STACK, count_layers, tensor_facts
from qxmix.planning.importance import has_importance
from qxmix.recipe import conditions, layers
from qxmix.recipe.categories import block_of, category_of, name_parts
from qxmix.recipe.literals import required, sequences
from qxmix.recipe.model import DEFAULT
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from qxmix.container.imatrix import Imatrix
    from qxmix.container.model import ModelHeader, TensorInfo
    from qxmix.errors import Place
    from qxmix.recipe.conditions import Condition, FactValue
    from qxmix.recipe.layers import LayerSelector
    from qxmix.recipe.model import NameTest, Recipe, Rule


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rules say about one tensor."""

    rule: int | None
    """Index of the rule that decides, or None for the default."""
    type: str
    """Upper-case name of the type asked for, or ``keep``."""
    steps: tuple[str, ...] = ()
    """What ``adjust`` changed, in order."""


@dataclass(frozen=True, slots=True)
class _Live:
    """A rule whose ``when`` this model can meet."""

    number: int
    rule: Rule
    when: Condition
    """What is left of it to ask of the tensors."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Tensors that the units before have left, which are those that a unit counts."""

    unit: int
    tensors: tuple[int, ...]


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
    _index: dict[str, list[int]] | None = None
    """Tensors by the sequences of components that their names hold."""
    _numbers: dict[tuple[NameTest, int | None], dict[int, int]] = field(default_factory=dict)
    """Places by what is counted: whom a name test selects, of all tensors or (a unit's index) of those left for it."""
    _totals: dict[object, int] = field(default_factory=dict)
    _tensor_facts: dict[int, dict[str, FactValue]] = field(default_factory=dict)
    imatrix: Imatrix | None = None
    """What ``has_importance`` asks."""

    def choose(self, candidates: Iterable[int]) -> dict[int, Choice]:
        """Decide the tensors whose indices are given; those that are not quantizable only by rules with ``force``."""
        undecided = list(candidates)
        chosen: dict[int, Choice] = {}
        for unit in dict.fromkeys(rule.unit for rule in self.recipe.rules):
            counted = None if self.count_overridden else _Left(unit, tuple(undecided))
            tries = self._tries(unit)
            rest = []
            for index in undecided:
                decided = self._first(index, tries(index), counted)
                if decided is None:
                    rest.append(index)
                else:
                    chosen[index] = decided
            undecided = rest
        for index in undecided:
            if self.quantizable[index]:
                chosen[index] = Choice(None, self.recipe.default)
        return chosen

    def _tries(self, unit: int) -> Callable[[int], Iterable[_Live]]:
        """For a tensor the rules of a unit that may select it, in order: not those whose pattern needs another name."""
        anywhere: list[_Live] = []
        by_tensor: dict[int, list[_Live]] = {}
        for number, rule in enumerate(self.recipe.rules):
            if rule.unit != unit or (when := conditions.reduce(rule.when, self.facts)) is None:
                continue
            live = _Live(number, rule, when)
            holders = self._holders(rule.match)
            if holders is None:
                anywhere.append(live)
            for index in holders or ():
                by_tensor.setdefault(index, []).append(live)

        def tries(index: int) -> Iterable[_Live]:
            own = by_tensor.get(index)
            return merge(anywhere, own, key=_number) if own and anywhere else own or anywhere

        return tries

    def _holders(self, match: str | None) -> Collection[int] | None:
        """Tensors whose names hold what a pattern requires; None where it requires nothing that is known."""
        keys = required(match) if match is not None else None
        if keys is None:
            return None
        if self._index is None:
            self._index = {}
            for i, tensor in enumerate(self.header.tensors):
                for key in sequences(tensor.name):
                    self._index.setdefault(key, []).append(i)
        found = [self._index.get(key, ()) for key in keys]
        return found[0] if len(found) == 1 else {i for indices in found for i in indices}

    def applies(self, rule: Rule) -> bool:
        """Whether the rule's ``when`` allows a model like this; one for other models need not select anything."""
        return conditions.reduce(rule.when, self.facts) is not None

    def selected(self, rule: Rule, candidates: Iterable[int]) -> list[int]:
        """Indices of the tensors that a rule selects, whatever rules before it say."""
        when = conditions.reduce(rule.when, self.facts)
        if when is None:
            return []
        holders = self._holders(rule.match)
        if holders is not None:
            wanted = candidates if isinstance(candidates, range) else set(candidates)
            candidates = sorted(i for i in holders if i in wanted)
        return [i for i in candidates if self._selects(rule, when, i, None)]

    def has_name(self, rule: Rule, index: int) -> bool:
        """Whether the rule's ``match`` and ``category`` select the tensor's name."""
        return _has_name(rule.names, self.header.tensors[index].name, rule.where)

    def meets(self, rule: Rule, index: int) -> bool:
        """Whether model and tensor are as the rule's ``when`` asks."""
        when = conditions.reduce(rule.when, self.facts)
        return when is not None and conditions.holds(when, self._facts_of(index, self.recipe.default))

    def in_layers(self, rule: Rule, index: int, left: tuple[int, ...]) -> bool:
        """Whether the rule's ``layers`` have the tensor, ``left`` being what earlier units left to the rule's own."""
        counted = None if self.count_overridden else _Left(rule.unit, left)
        return rule.layers is None or self._in_layers(rule, rule.layers, index, counted)

    def place(self, rule: Rule, index: int, left: tuple[int, ...]) -> int | None:
        """The tensor's place among those that the rule's ``match`` and ``category`` select."""
        counted = None if self.count_overridden else _Left(rule.unit, left)
        return self._ordinals(rule, counted).get(index)

    def _first(self, index: int, rules: Iterable[_Live], counted: _Left | None) -> Choice | None:
        for live in rules:
            rule = live.rule
            if (self.quantizable[index] or rule.force) and self._selects(rule, live.when, index, counted):
                return self._adjusted(live.number, rule, index, counted)
        return None

    def _selects(self, rule: Rule, when: Condition, index: int, counted: _Left | None) -> bool:
        return (
            _has_name(rule.names, self.header.tensors[index].name, rule.where)
            and (not when or conditions.holds(when, self._facts_of(index, self.recipe.default)))
            and (rule.layers is None or self._in_layers(rule, rule.layers, index, counted))
        )

    def _adjusted(self, number: int, rule: Rule, index: int, counted: _Left | None) -> Choice:
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

    def _in_layers(self, rule: Rule, selector: LayerSelector, index: int, counted: _Left | None) -> bool:
        by_layer = selector.by == "layer" or (
            selector.by == "layer_if_experts" and self.facts["n_expert"] not in (0, 1)
        )
        parts = name_parts(self.header.tensors[index].name)
        i = parts.layer if by_layer else self._ordinals(rule, counted).get(index)
        return i is not None and layers.holds(selector, i, self._total(selector.of, parts.stack))

    def _ordinals(self, rule: Rule, counted: _Left | None) -> dict[int, int]:
        """Place of each tensor among the quantizable ones whose names the rule's tests select."""
        names, where = rule.names, rule.where
        key = (names, None if counted is None else counted.unit)
        found = self._numbers.get(key)
        if found is None:
            tensors = self.header.tensors
            indices = [
                i
                for i in (range(len(tensors)) if counted is None else counted.tensors)
                if self.quantizable[i] and _has_name(names, tensors[i].name, where)
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


def _has_name(names: NameTest, name: str, where: Place) -> bool:
    return (not names.categories or category_of(name) in names.categories) and (
        names.match is None or search(names.match, name, where)
    )


def _number(live: _Live) -> int:
    return live.number


def name_order(tensor: TensorInfo) -> tuple[int, bytes]:
    """llama.cpp's order: tensors outside of blocks first, then by block, each by the bytes of the name."""
    layer = block_of(tensor.name)
    return -1 if layer is None else layer, tensor.name.encode()
