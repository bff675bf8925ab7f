"""YAML text to a tree of values that know their lines.

Built from the parser's events and not by ``yaml.load``: the lines are what errors need, nothing is constructed that is
not plain data, and depth, aliases and repeated keys are checked while the tree grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import yaml

from qxmix.errors import Place, Problem, RecipeError
from qxmix.recipe.yaml_errors import explain

MAX_NBYTES = 2 << 20
"""Largest recipe file, in bytes; the largest recipe seen in the wild has 2,200 lines and 80 KB."""
_MAX_DEPTH = 40
"""Deepest nesting; the language itself needs six levels."""
_MAX_NODES = 200_000
"""Most nodes of a recipe, aliases counted as often as they are used."""

# A build of pyyaml without libyaml parses the same language, only ten times slower.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_OCTAL = re.compile(r"([-+]?)0[0_]*([1-7][0-7_]*)")


@dataclass(slots=True)
class Node:
    """A value of the file, or a whole list or mapping of them."""

    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    line: int
    """Where the value starts, counted from 1."""
    key_line: int = 0
    """Where its key stands; its own line for an item of a list."""
    n_nodes: int = 1
    """Nodes in this tree, aliases expanded."""
    written: str = ""
    """A single value as the file has it: ``on``, which YAML takes for true."""

    @property
    def kind(self) -> str:
        """The kind of value, in the words of an error message."""
        if self.value is None:
            return "nothing"
        return {dict: "a mapping", list: "a list", str: "a string", bool: "true or false"}.get(
            type(self.value), "a number"
        )


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    first_lines: dict[str, int] = field(default_factory=dict)


def read_text(data: bytes, name: str) -> str:
    """The text of a recipe file.

    Raises:
        RecipeError: it is too large or not UTF-8.

    """
    if data.startswith(b"GGUF"):
        raise RecipeError.at(name, "is a model, not a recipe; where a command takes both, the recipe comes first")
    if len(data) > MAX_NBYTES:
        raise RecipeError.at(name, f"is too large for a recipe; the most is {MAX_NBYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise RecipeError.at(Place(name, line), text) from None


def parse(text: str, name: str) -> Node:
    """Parse one YAML document.

    Raises:
        RecipeError: it is not YAML, or has repeated keys, too deep nesting, tags, or aliases that blow it up.

    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise RecipeError(_unprintable(text, name, error)) from None
    try:
        return _Builder(name, loader).build()
    except yaml.reader.ReaderError as error:
        raise RecipeError(_unprintable(text, name, error)) from None
    except yaml.MarkedYAMLError as error:
        line, what = explain(error, text)
        raise RecipeError.at(Place(name, line), f"not valid YAML: {what}") from None
    finally:
        loader.dispose()


def _unprintable(text: str, name: str, error: yaml.reader.ReaderError) -> Problem:
    position = next((i for i, c in enumerate(text) if not (c.isprintable() or c in "\t\n\r\x85\ufeff")), 0)
    line = text.count("\n", 0, position) + 1
    found = f"U+{ord(text[position]):04X}" if text else error.reason
    return Problem(Place(name, line), f"the character {found} is not allowed in YAML; remove it")


class _Builder:
    """Turns events into nodes; an open list or mapping is a frame on a stack, so depth costs no recursion."""

    def __init__(self, name: str, loader: Any) -> None:  # noqa: ANN401 - pyyaml's loaders have no types
        self.name = name
        self.loader = loader
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None

    def build(self) -> Node:
        for event in self._events():
            line = event.start_mark.line + 1
            match event:
                case yaml.DocumentStartEvent() if self.root is not None:
                    self._fail(line, "a second document starts here; a recipe is one document")
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._open(event, line)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done = self.stack.pop()
                    if done.anchor:
                        self.anchors[done.anchor] = done.node
                    self._put(done.node, line)
                case yaml.ScalarEvent():
                    self._scalar(event, line)
                case yaml.AliasEvent():
                    self._alias(event, line)
        if self.root is None:
            self._fail(1, "the file is empty; a recipe starts with 'qxmix: 1'")
        assert self.root is not None
        return self.root

    def _events(self) -> Iterator[Any]:
        while self.loader.check_event():
            yield self.loader.get_event()

    def _fail(self, line: int, text: str) -> None:
        raise RecipeError.at(Place(self.name, line), text)

    def _open(self, event: Any, line: int) -> None:  # noqa: ANN401
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            self._fail(line, f"the tag {event.tag} means nothing here; remove it")
        if len(self.stack) >= _MAX_DEPTH:
            self._fail(line, f"nested more than {_MAX_DEPTH} levels deep")
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        frame = _Open(Node(value, line), event.anchor)
        if self.stack and isinstance(self.stack[-1].node.value, dict) and self.stack[-1].key is None:
            self._fail(line, "a list or mapping cannot be a key")
        self.stack.append(frame)

    def _scalar(self, event: Any, line: int) -> None:  # noqa: ANN401
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            self._key(frame, event, line)
            return
        node = Node(self._value(event, line), line, written=event.value)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._put(node, line)

    def _key(self, frame: _Open, event: Any, line: int) -> None:  # noqa: ANN401
        if event.value == "<<" and event.implicit[0]:
            self._fail(line, "YAML merge keys ('<<') are not supported; write the keys out, or use 'extends'")
        if event.value in frame.first_lines:
            first = frame.first_lines[event.value]
            self._fail(line, f"the key '{event.value}' is there twice, first on line {first}")
        frame.first_lines[event.value] = line
        frame.key, frame.key_line = event.value, line

    def _value(self, event: Any, line: int) -> str | float | bool | None:  # noqa: ANN401
        tag = event.tag or self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(_TAG)
        # 1:30 is base sixty and a date is a date only to YAML 1.1; whoever writes a recipe means the text.
        if kind in ("str", "timestamp", "value", "merge") or (kind in ("int", "float") and ":" in event.value):
            return str(event.value)
        if kind not in ("null", "bool", "int", "float"):
            self._fail(line, f"the tag {tag} means nothing here; remove it")
        try:
            made: float | bool | None = self.loader.yaml_constructors[tag](
                self.loader, yaml.ScalarNode(tag, event.value)
            )
        except (ValueError, KeyError):
            self._fail(line, f"'{event.value}' is not a value of type {kind}")
            raise
        if kind == "int" and (octal := _OCTAL.fullmatch(event.value)):
            text = f"{event.value} is octal to YAML, the number {made}"
            self._fail(line, f"{text}; write {made} or {octal[1]}{octal[2]}, whichever is meant, or quote a text")
        if isinstance(made, float) and not isfinite(made):
            self._fail(line, f"{event.value} is not a finite number")
        return made

    def _alias(self, event: Any, line: int) -> None:  # noqa: ANN401
        if any(frame.anchor == event.anchor for frame in self.stack):
            self._fail(line, f"the alias *{event.anchor} stands inside what it refers to")
        found = self.anchors.get(event.anchor)
        if found is None:
            self._fail(
                line,
                f"the alias *{event.anchor} has no anchor &{event.anchor} before it; quote a text that starts with *",
            )
            return
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            self._fail(line, "an alias cannot be a key")
        self._put(Node(found.value, found.line, n_nodes=found.n_nodes, written=found.written), line)

    def _put(self, node: Node, line: int) -> None:
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.node.n_nodes += node.n_nodes
        if frame.node.n_nodes > _MAX_NODES:
            self._fail(line, f"more than {_MAX_NODES:,} values once the aliases are expanded")
        if isinstance(frame.node.value, dict):
            assert frame.key is not None
            node.key_line = frame.key_line
            frame.node.value[frame.key] = node
            frame.key = None
        elif isinstance(frame.node.value, list):
            node.key_line = node.line
            frame.node.value.append(node)
