"""The structure of a recipe, checked against ``schemas/recipe.schema.json``: the file that editors use, too.

Importing ``jsonschema`` costs 70 ms, a fifth of what a whole plan may take, and its errors know no lines.  So this is
a walker for just the keywords that our schema uses; a test holds its verdicts equal to those of ``jsonschema``.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from qxmix.errors import Place, Problem
from qxmix.quants import find
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qxmix.recipe.tree import Node

Schema = dict[str, Any]

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a number",
    "number": "a number",
    "null": "nothing",
}


@cache
def recipe_schema() -> Schema:
    """The schema as it is shipped."""
    with (data_dir("schemas") / "recipe.schema.json").open(encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of structure."""

    path: str
    """Where it is: ``rules[3].type``; empty for the whole file."""
    problem: Problem


def check(root: Node, name: str) -> list[Fault]:
    """Faults of structure in file order: unknown and missing keys, wrong kinds of value, values out of range."""
    return [
        Fault(path, Problem(Place(name, line, path), text)) for line, path, text in _check(root, recipe_schema(), "")
    ]


def near(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` where a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, known, 1, 0.6) or difflib.get_close_matches(
        word.lower(), [k for k in known if k.islower()], 1, 0.6
    )
    return f"; did you mean '{close[0]}'?" if close else ""


Found = tuple[int, str, str]


def _check(node: Node, schema: Schema, path: str) -> Iterator[Found]:
    resolved = _resolve(schema)
    examples = schema.get("examples") or resolved.get("examples", ())
    options = [_resolve(option) for option in resolved.get("anyOf", ())] or [resolved]
    # Report against the alternatives that are for this kind of value, if there are some.
    fitting = [o for o in options if not _types(o) or any(_is(node, kind) for kind in _types(o))]
    if fitting:
        results = [list(_check_value(node, option, path)) for option in fitting]
        yield from min(results, key=len)
    else:
        kinds = " or ".join(dict.fromkeys(_article(kind) for o in options for kind in _types(o)))
        yield node.key_line or node.line, path, f"must be {kinds}, not {_shown(node)}{_for_example(path, examples)}"


def _check_value(node: Node, schema: Schema, path: str) -> Iterator[Found]:
    if "anyOf" in schema:
        yield from _check(node, schema, path)
    elif isinstance(node.value, dict):
        yield from _check_mapping(node, node.value, schema, path)
    elif isinstance(node.value, list):
        yield from _check_list(node, node.value, schema, path)
    else:
        yield from _check_scalar(node, schema, path)


def _for_example(path: str, examples: Sequence[object]) -> str:
    if not path:
        return "; a recipe is lines of 'key: value', the first of them 'qxmix: 1'"
    if path == "imatrix":
        return "; the matrix itself is given as --imatrix FILE, and here what is asked of it: imatrix: {missing: error}"
    key = "" if path.endswith("]") else f"{path.rpartition('.')[2]}: "
    return f"; for example {key}{flow(examples[0])}" if examples else ""


def flow(value: object) -> str:
    """A plain value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_0-9][\w./-]*", value):
        return f"'{value}'"
    return str(value)


def _of_a_rule(key: str, path: str) -> str:
    """A rule's key at the top of the file."""
    rule = recipe_schema()["$defs"]["rule"]["properties"]
    return "" if path or key not in rule else f"; it belongs into a rule: rules: [{{{key}: ..., ...}}]"


def _quoting(key: str, value: dict[str, Node]) -> str:
    """``{layers: first(1), last(1)}``: to YAML the comma ends the value, and what follows is a key."""
    if "layers" not in value or value[key].value is not None:
        return ""
    return f'; a value with a comma needs quotes: layers: "{value["layers"].value}, {key}"'


def _check_mapping(node: Node, value: dict[str, Node], schema: Schema, path: str) -> Iterator[Found]:
    known: Schema = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    for key, child in value.items():
        place = f"{path}.{key}" if path else key
        if key in known:
            yield from _check(child, known[key], place)
        elif isinstance(extra, dict):
            yield from _check_key(key, child, schema, place)
            yield from _check(child, extra, place)
        elif extra is False:
            hint = _of_a_rule(key, path) or near(key, list(known)) or _quoting(key, value)
            hint = hint or f"; known keys: {', '.join(known)}"
            yield child.key_line, path, f"unknown key '{key}'{hint}"
    for key in schema.get("required", ()):
        if key not in value:
            # What must be there and can be only one thing is told whole.
            only = known.get(key, {}).get("const")
            yield (
                node.key_line or node.line,
                path,
                f"the key '{key}' is missing" + (f"; write '{key}: {only}'" if only is not None else ""),
            )
    if len(value) < schema.get("minProperties", 0):
        yield node.key_line or node.line, path, "must not be empty"


def _check_key(key: str, child: Node, schema: Schema, place: str) -> Iterator[Found]:
    pattern = schema.get("propertyNames", {}).get("pattern")
    if pattern and not re.search(pattern, key):
        told = schema["propertyNames"].get("patternErrorMessage", f"must match {pattern}")
        yield child.key_line, place, f"'{key}' cannot be a key here; it {told}"


def _check_list(node: Node, value: list[Node], schema: Schema, path: str) -> Iterator[Found]:
    if len(value) < schema.get("minItems", 0):
        yield node.key_line or node.line, path, "must not be an empty list"
    items = schema.get("items")
    if items is not None:
        for i, child in enumerate(value):
            yield from _check(child, items, f"{path}[{i}]")


def _check_scalar(node: Node, schema: Schema, path: str) -> Iterator[Found]:
    value = node.value
    if "const" in schema and value != schema["const"]:
        yield node.line, path, f"must be {schema['const']}, not {_shown(node)}"
    if "enum" in schema and value not in schema["enum"]:
        names = [str(v) for v in schema["enum"]]
        hint = _as_list(value, path) or _several(value, names, path) or near(str(value), names)
        choice = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        yield node.line, path, f"must be {choice}, not {_shown(node)}{hint}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield node.line, path, "must not be empty"
        elif "pattern" in schema and not re.search(schema["pattern"], value):
            # The keyword by which editors say it, too.
            told = schema.get("patternErrorMessage", f"does not match {schema['pattern']}")
            yield node.line, path, f"{_shown(node)} {told}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(node, value, schema, path)


def _as_list(value: object, path: str) -> str:
    """A type where a fallback policy is expected; types to try are a list, also one of one."""
    is_type = path.rpartition(".")[2] == "fallback" and isinstance(value, str) and find(value) is not None
    return f"; types to try are a list: [{value}]" if is_type else ""


def _several(value: object, names: list[str], path: str) -> str:
    """``attn`` for four categories, and experts, which have none of their own."""
    if ".category" not in path:
        return ""
    if str(value).startswith("exp"):
        return "; experts are told by their names: match: '_exps'"
    found = [name for name in names if name.startswith(f"{value}_")]
    return f"; did you mean [{', '.join(found)}]?" if len(found) > 1 else ""


def _check_number(node: Node, value: float, schema: Schema, path: str) -> Iterator[Found]:
    if value < schema.get("minimum", value):
        last = f"; the last of the layers are last({-value:g})" if path.endswith(".layers") else ""
        yield node.line, path, f"must be at least {schema['minimum']}, not {_shown(node)}{last}"
    if value <= schema.get("exclusiveMinimum", value - 1):
        yield node.line, path, f"must be more than {schema['exclusiveMinimum']}, not {_shown(node)}"
    if value > schema.get("maximum", value):
        yield node.line, path, f"must be at most {schema['maximum']}, not {_shown(node)}"


def _resolve(schema: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = recipe_schema()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _types(schema: Schema) -> tuple[str, ...]:
    kind = schema.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _article(kind: str) -> str:
    return "a whole number" if kind == "integer" else _KINDS[kind]


def _is(node: Node, kind: str) -> bool:
    value = node.value
    match kind:
        case "integer":
            return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return node.kind == _KINDS[kind]


def _shown(node: Node) -> str:
    if isinstance(node.value, str):
        return f"'{node.value}'" if len(node.value) <= 60 else f"'{node.value[:57]}...'"  # noqa: PLR2004
    if isinstance(node.value, dict | list) or node.value is None:
        return node.kind
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
