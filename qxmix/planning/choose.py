"""Which rule decides each tensor, and the type it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from qxmix.container.imatrix import Imatrix
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.importance import has_importance
from qxmix.planning.kept import Kept
from qxmix.planning.view import Kind, ModelView
from qxmix.recipe import conditions
from qxmix.recipe.conditions import Condition, FactValue
from qxmix.recipe.layers import LayerSelector
from qxmix.recipe.model import DEFAULT, Adjust, Recipe, Rule


class Choice(NamedTuple):
    """What the rules say about one tensor."""

    rule: int | None
    """Index of the rule that decides, or None for the default."""
    type: str
    """Upper-case name of the type asked for, or ``keep``."""
    steps: tuple[str, ...] = ()
    """What ``adjust`` changed, in order."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided about all tensors of a model, before anything is known of sizes."""

    kept: Mapping[Kept, Tensors]
    """Why tensors that nothing is said of are carried over."""
    by_keep: Tensors
    """Of them those that the recipe's own ``keep`` names."""
    open: Tensors
    """The tensors that rules have a say about."""
    chosen: tuple[tuple[Choice, Tensors], ...]
    """What rules and default say, and of which tensors."""
    by_rule: Mapping[int, Tensors]
    """What each rule decides; a rule that decides nothing is not in it."""


@dataclass(slots=True)
class Chooser:
    """Rules seen against one model."""

    recipe: Recipe
    view: ModelView
    facts: dict[str, FactValue]
    """Of the model."""
    quantizable: Tensors
    """The tensors that the engines quantize."""
    by_name: bool
    """Count tensors by block number and name instead of by place in the file."""
    count_overridden: bool
    imatrix: Imatrix | None = None
    """What ``has_importance`` asks."""
    _kinds: tuple[Kind, ...] | None = None

    def choose(self, candidates: Tensors) -> list[tuple[Choice, Tensors]]:
        """Decide tensors; those that are not quantizable only by rules with ``force``.

        Returns:
            Each choice that is made, and the tensors it is made for; no tensor is in two of them.

        """
        undecided = candidates
        chosen: list[tuple[Choice, Tensors]] = []
        for unit in dict.fromkeys(rule.unit for rule in self.recipe.rules):
            left = undecided
            for number, rule in enumerate(self.recipe.rules):
                if rule.unit != unit or not undecided:
                    continue
                taken = self._selected(rule, undecided if rule.force else undecided & self.quantizable, left)
                if taken:
                    undecided &= ~taken
                    chosen += self._adjusted(number, rule, taken, left)
        if rest := undecided & self.quantizable:
            chosen.append((Choice(None, self.recipe.default), rest))
        return chosen

    def applies(self, rule: Rule) -> bool:
        """Whether the rule's ``when`` allows a model like this; one for other models need not select anything."""
        return conditions.reduce(rule.when, self.facts) is not None

    def selected(self, rule: Rule, candidates: Tensors) -> Tensors:
        """The tensors that a rule selects, whatever rules before it say."""
        return self._selected(rule, candidates, self.view.all)

    def has_name(self, rule: Rule, index: int) -> bool:
        """Whether the rule's ``match`` and ``category`` select the tensor's name."""
        return bool(self.view.named(rule.names, 1 << index, rule.where))

    def meets(self, rule: Rule, index: int) -> bool:
        """Whether model and tensor are as the rule's ``when`` asks."""
        when = conditions.reduce(rule.when, self.facts)
        return when is not None and bool(self._meeting(when, 1 << index, self.recipe.default))

    def in_layers(self, rule: Rule, selector: LayerSelector, index: int, left: tuple[int, ...]) -> bool:
        """Whether ``layers`` of a rule have the tensor, ``left`` being what earlier units left to the rule's own."""
        return bool(self._in_layers(rule, selector, bits.from_indices(left)) & (1 << index))

    def by_layer(self, selector: LayerSelector) -> bool:
        """Whether a selector means the numbers of layers in this model, and not places among tensors of a kind."""
        return selector.by == "layer" or (selector.by == "layer_if_experts" and self.facts["n_expert"] not in (0, 1))

    def facts_of(self, index: int) -> dict[str, FactValue]:
        """What conditions ask of the model and of a tensor, whose type so far is the default."""
        kind = next(kind for kind in self._known_kinds() if kind.tensors >> index & 1)
        return {**kind.facts, "type": self.recipe.default}

    def place(self, rule: Rule, index: int, left: tuple[int, ...]) -> int | None:
        """The tensor's place among those that the rule's ``match`` and ``category`` select."""
        counted = self._counted(bits.from_indices(left))
        return self.view.places(rule.names, counted, rule.where, by_name=self.by_name).get(index)

    def _selected(self, rule: Rule, among: Tensors, left: Tensors) -> Tensors:
        when = conditions.reduce(rule.when, self.facts)
        if when is None:
            return 0
        found = self.view.named(rule.names, among, rule.where)
        if found and when:
            found = self._meeting(when, found, self.recipe.default)
        return found & self._in_layers(rule, rule.layers, left) if found and rule.layers is not None else found

    def _adjusted(self, number: int, rule: Rule, taken: Tensors, left: Tensors) -> Iterator[tuple[Choice, Tensors]]:
        """What the rule's ``adjust`` makes of its type for the tensors it takes."""
        current = {Choice(number, self.asked(rule.type)): taken}
        for i, step in enumerate(rule.adjust):
            new = self.asked(step.type)
            after: dict[Choice, Tensors] = {}
            for choice, tensors in current.items():
                changed = 0 if choice.type == new else self._stepped(rule, step, choice.type, tensors, left)
                if changed != tensors:
                    after[choice] = tensors & ~changed
                if changed:
                    text = f"adjust[{i}] {choice.type} -> {new}"
                    after[Choice(number, new, (*choice.steps, text))] = changed
            current = after
        yield from current.items()

    def _stepped(self, rule: Rule, step: Adjust, type_so_far: str, tensors: Tensors, left: Tensors) -> Tensors:
        """The tensors whose type a step changes."""
        when = conditions.reduce(step.when, self.facts)
        if when is None:
            return 0
        found = self._meeting(when, tensors, type_so_far) if when else tensors
        return found & self._in_layers(rule, step.layers, left) if found and step.layers is not None else found

    def asked(self, name: str) -> str:
        """The type that a rule's or a step's ``type`` is."""
        return self.recipe.default if name == DEFAULT else name

    def _meeting(self, when: Condition, among: Tensors, type_so_far: str) -> Tensors:
        """Those whose facts meet a condition."""
        alike = [(kind, found) for kind in self._known_kinds() if (found := kind.tensors & among)]
        return bits.union(found for kind, found in alike if conditions.holds(when, {**kind.facts, "type": type_so_far}))

    def _known_kinds(self) -> tuple[Kind, ...]:
        if self._kinds is None:
            self._kinds = tuple(self._all_kinds())
        return self._kinds

    def _all_kinds(self) -> Iterator[Kind]:
        """The model's, told apart by whether the importance matrix has something for them."""
        tensors, engines = self.view.header.tensors, self.recipe.engines
        for kind in self.view.kinds:
            weighted = 0
            if self.imatrix is not None:
                members = bits.indices(kind.tensors)
                weighted = bits.from_indices([i for i in members if has_importance(tensors[i], self.imatrix, engines)])
            for found, known in ((weighted, True), (kind.tensors & ~weighted, False)):
                if found:
                    yield Kind(found, {**self.facts, **kind.facts, "has_importance": known})

    def _in_layers(self, rule: Rule, selector: LayerSelector, left: Tensors) -> Tensors:
        if self.by_layer(selector):
            return self.view.in_layers(selector)
        counted = self._counted(left)
        return self.view.at_places(selector, rule.names, counted, rule.where, by_name=self.by_name)

    def _counted(self, left: Tensors) -> Tensors:
        """The quantizable tensors, of all or of those that the units before a rule's own have left to it."""
        return self.quantizable if self.count_overridden else self.quantizable & left
