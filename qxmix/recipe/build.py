"""Checked nodes to the values of one recipe file; everything that the schema cannot say is checked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from qxmix.errors import Place, Problem
from qxmix.quants import find
from qxmix.recipe import conditions, layers
from qxmix.recipe.categories import CATEGORIES
from qxmix.recipe.conditions import Condition
from qxmix.recipe.encoding import read_feedback, read_scales
from qxmix.recipe.layers import LayerSelector
from qxmix.recipe.limits import read_limits
from qxmix.recipe.metadata import metadata_edits
from qxmix.recipe.model import (
    DEFAULT,
    KEEP,
    Adjust,
    Expect,
    Fallback,
    ImatrixPolicy,
    Ordinals,
    Rule,
)
from qxmix.recipe.patterns import pattern_error
from qxmix.recipe.problem_ids import IDS
from qxmix.recipe.remedies import instead, near, unknown_type

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

T = TypeVar("T")


@dataclass(slots=True)
class Scope:
    """What a recipe's rules may refer to, and where its problems go.  Extended recipes are read first and fill it."""

    layers: dict[str, layers.LayerSet] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)


class Builder:
    """Reads the nodes of one file.  Problems are collected; a value with a problem comes out as some valid one."""

    def __init__(self, name: str, source: int, scope: Scope, problems: list[Problem]) -> None:
        self.name = name
        self.source = source
        self.scope = scope
        self.problems = problems

    def problem(self, node: Node, path: str, text: str) -> None:
        """Note a problem at a node."""
        self.problems.append(Problem(Place(self.name, node.line, path), text))

    def names(self, root: dict[str, Node]) -> None:
        """Add the file's named layer sets and conditions to the scope."""
        for name, node in _mapping(root.get("layers")).items():
            path = f"layers.{name}"
            if name in layers.RESERVED:
                self.problem(node, path, f"'{name}' already means something in a layer selector; choose another name")
                continue
            self.scope.layers[name] = self.layer_set(node, path)
        for name, node in _mapping(root.get("conditions")).items():
            self.scope.conditions[name] = self.condition(node, f"conditions.{name}")

    def type(self, node: Node, path: str, words: tuple[str, ...] = ()) -> str:
        """Upper-case name of a type that may stand in a new file, or one of ``words``."""
        text = str(node.value)
        if text.lower() in words:
            return text.lower()
        found = find(text)
        if found is None:
            self.problem(node, path, unknown_type(text, words))
        elif not found.writable:
            self.problem(node, path, f"{found.name} is not a type for weights; choose another")
        return found.name if found else "F32"

    def pattern(self, node: Node, path: str) -> str:
        """A regular expression that compiles."""
        text = str(node.value)
        if error := pattern_error(text):
            self.problem(node, path, error)
        return text

    def terms(self, node: Node, path: str) -> tuple[layers.LayerTerm, ...]:
        """Terms of a layer selector."""
        found: list[layers.LayerTerm] = []
        for item in items(node):
            try:
                found += layers.parse_terms(str(item.value), self.scope.layers)
            except layers.LayerError as error:
                self.problem(item, path, str(error))
        return tuple(found)

    def layer_set(self, node: Node, path: str) -> layers.LayerSet:
        """Layers with or without what numbers them."""
        if not isinstance(node.value, dict):
            named = self.scope.layers.get(str(node.value))
            return named or layers.LayerSet(self.terms(node, path))
        parts = node.value
        by = cast("layers.By", parts["by"].value) if "by" in parts else None
        of = tuple(str(i.value) for i in items(parts["of"])) if "of" in parts else None
        return layers.LayerSet(self.terms(parts["pick"], f"{path}.pick"), by, () if of == ("layers",) else of)

    def selector(self, node: Node | None, path: str, categories: tuple[str, ...]) -> LayerSelector | None:
        """A layer selector, or None where there is no node."""
        if node is None:
            return None
        found = self.layer_set(node, path)
        by = found.by or "layer"
        default = categories if by == "ordinal" else ()
        text = _text(node.value["pick"] if isinstance(node.value, dict) else node)
        return LayerSelector(found.terms, by, default if found.of is None else found.of, text)

    def condition(self, node: Node | None, path: str) -> Condition:
        """A condition; empty where there is no node."""
        alternatives: list[tuple[conditions.Test, ...]] = []
        for item in items(node) if node is not None else []:
            if isinstance(item.value, dict):
                alternatives.append(tuple(self.test(k, v, f"{path}.{k}") for k, v in item.value.items()))
            elif (named := self.scope.conditions.get(str(item.value))) is not None:
                alternatives += named
            else:
                known = list(self.scope.conditions)
                hint = near(str(item.value), known) or (
                    f"; the named conditions are {', '.join(known)}" if known else "; define it under 'conditions'"
                )
                self.problem(item, path, f"unknown condition '{item.value}'{hint}")
        return tuple(alternatives)

    def test(self, fact: str, node: Node, path: str) -> conditions.Test:
        """The test of one fact."""
        try:
            test = conditions.parse_test(fact, [i.value for i in items(node)])
        except conditions.ConditionError as error:
            self.problem(node, path, str(error))
            return conditions.Test(fact, ())
        if fact in ("type", "source_type"):
            for word in (str(c.operand) for all_of in test.any_of for c in all_of):
                if find(word) is None:
                    self.problem(node, path, unknown_type(word))
        return test

    def fallback(self, node: Node | None, path: str) -> Fallback | None:
        """A fallback: a policy, one chain for all types, or chains per type."""
        if node is None:
            return None
        if isinstance(node.value, list):
            return Fallback(None, {"": self.chain(node, path)})
        if not isinstance(node.value, dict):
            return Fallback(cast("Any", node.value))
        policy = node.value.get("policy")
        chains = {}
        for name, value in node.value.items():
            if name == "policy":
                continue
            found = find(name)
            if found is None:
                self.problem(value, f"{path}.{name}", unknown_type(name, ("policy",)))
            chains[found.name if found else name] = self.chain(value, f"{path}.{name}")
        return Fallback(cast("Any", policy.value) if policy else None, chains)

    def chain(self, node: Node, path: str) -> tuple[str, ...]:
        """Types to try in order."""
        found = items(node)
        return tuple(self.type(v, f"{path}[{i}]" if len(found) > 1 else path) for i, v in enumerate(found))

    def rule(self, node: Node, path: str, unit: int, silence: dict[str, str]) -> Rule:
        """One rule."""
        parts = _mapping(node)
        categories = tuple(str(i.value) for i in items(parts["category"])) if "category" in parts else ()
        assert all(c in CATEGORIES for c in categories)
        adjust = [
            self.adjust(item, f"{path}.adjust[{i}]", categories)
            for i, item in enumerate(items(parts["adjust"]) if "adjust" in parts else [])
        ]
        rule = Rule(
            where=Place(self.name, node.line, path),
            source=self.source,
            unit=unit,
            type=self.type(parts["type"], f"{path}.type", (DEFAULT, KEEP)),
            match=self.pattern(parts["match"], f"{path}.match") if "match" in parts else None,
            categories=categories,
            layers=self.selector(parts.get("layers"), f"{path}.layers", categories),
            when=self.condition(parts.get("when"), f"{path}.when"),
            adjust=tuple(adjust),
            fallback=self.fallback(parts.get("fallback"), f"{path}.fallback"),
            search=_scalar(parts, "search", None),
            feedback=read_feedback(parts.get("feedback")),
            symmetric=_scalar(parts, "symmetric", None),
            imatrix=_scalar(parts, "imatrix", default=True),
            scale=read_scales(self.name, parts.get("scale"), f"{path}.scale", self.problems),
            force=_scalar(parts, "force", default=False),
            tie=_scalar(parts, "tie", default=False),
            expect=self.expect(parts.get("expect"), f"{path}.expect"),
            comment=_scalar(parts, "comment", ""),
            silence={**silence, **self.silence(parts.get("silence"), f"{path}.silence", of_rule=True)},
        )
        if rule.force and rule.type == KEEP:
            self.problem(parts["force"], f"{path}.force", "'force' quantizes and 'type: keep' does not; drop one")
        return rule

    def silence(self, node: Node | None, path: str, *, of_rule: bool) -> dict[str, str]:
        """Ids of problems and the reasons; those that are none, or that cannot be silenced here, are problems."""
        found = {}
        for id_, reason in _mapping(node).items():
            known = IDS.get(id_)
            if known is None:
                hint = near(id_, list(IDS)) or "; 'qxmix lint --ids' lists them"
                self.problem(reason, path, f"'{id_}' is no id of a problem{hint}")
            elif known.silenced_by == "nobody":
                self.problem(reason, path, f"'{id_}' is an error, which cannot be silenced; {instead(id_)}")
            elif of_rule and known.silenced_by == "recipe":
                text = f"'{id_}' is about the whole plan; silence it at the top of the recipe"
                self.problem(reason, path, f"{text}: silence: {{{id_}: ...}}")
            found[id_] = str(reason.value)
        return found

    def adjust(self, node: Node, path: str, categories: tuple[str, ...]) -> Adjust:
        """A step after the match."""
        parts = _mapping(node)
        return Adjust(
            self.type(parts["type"], f"{path}.type", (DEFAULT, KEEP)),
            self.selector(parts.get("layers"), f"{path}.layers", categories),
            self.condition(parts.get("when"), f"{path}.when"),
        )

    def expect(self, node: Node | None, path: str) -> Expect | None:
        """How many tensors a rule has to decide."""
        if node is None:
            return None
        if not isinstance(node.value, dict):
            count = int(cast("int", node.value))
            return Expect(count, count)
        low = int(_scalar(node.value, "min", 0))
        high = int(_scalar(node.value, "max", 0)) if "max" in node.value else None
        if high is not None and low > high:
            self.problem(node, path, f"min {low} is more than max {high}")
        return Expect(low, high)

    def settings(self, root: dict[str, Node]) -> dict[str, Any]:
        """The settings that a file states itself, by the name of the recipe's field."""
        found: dict[str, Any] = {
            key: root[key].value
            for key in ("target", "allow_requantize", "search", "symmetric", "file_type")
            if key in root and root[key].value is not None
        }
        if "feedback" in root:
            found["feedback"] = read_feedback(root["feedback"]) or None
        if "scale" in root:
            found["scale"] = read_scales(self.name, root["scale"], "scale", self.problems)
        if "default" in root:
            found["default"] = self.type(root["default"], "default", (KEEP,))
        if (fallback := self.fallback(root.get("fallback"), "fallback")) is not None:
            found["fallback"] = fallback
        if "imatrix" in root:
            parts = _mapping(root["imatrix"])
            types = tuple(self.type(v, f"imatrix.require[{i}]") for i, v in enumerate(items(parts.get("require"))))
            found["imatrix"] = ImatrixPolicy(_scalar(parts, "missing", None), types, _scalar(parts, "prior", 0))
        if "keep" in root:
            found["keep"] = tuple(self.pattern(v, f"keep[{i}]") for i, v in enumerate(items(root["keep"])))
        if "ordinals" in root:
            parts = _mapping(root["ordinals"])
            found["ordinals"] = Ordinals(_scalar(parts, "order", None), _scalar(parts, "overridden", None))
        if "limits" in root:
            found["limits"] = read_limits(self.name, _mapping(root["limits"]), self.problems)
        if "metadata" in root:
            found["metadata"] = tuple(metadata_edits(self.name, _mapping(root["metadata"]), self.problems))
        return found


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def items(node: Node | None) -> list[Node]:
    """The nodes of a list, or the node itself where one stands for a list of one."""
    if node is None:
        return []
    return node.value if isinstance(node.value, list) else [node]


def _scalar(parts: dict[str, Node], key: str, default: T) -> Any:  # noqa: ANN401 - the schema has checked its kind
    return parts[key].value if key in parts else default


def _text(node: Node) -> str:
    return ", ".join(str(item.value) for item in items(node))
