"""What is wrong with a recipe's structure: errors of ``jsonschema`` as line, path and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qxmix.errors import Place
from qxmix.quants import find
from qxmix.recipe.remedies import near
from qxmix.recipe.schema import Schema, recipe_schema, resolved

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from qxmix.recipe.tree import Node

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "nothing",
}
_POWER = re.compile(r"([-+]?\d+)(\.\d+)?[eE]([-+]?)(\d{1,2})")
_SHOWN = 60
"""Most characters of a value that a message quotes."""


Fault = tuple[Place, str]
"""Where the schema refuses something, and what is wrong."""


def check(root: Node, name: str) -> list[Fault]:
    """Faults of structure: unknown and missing keys, wrong kinds of value, values out of range.

    Args:
        root: The file's tree.
        name: What messages call the file.

    """
    # Costs 70 ms, for which no plan of a sound recipe is to wait.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    errors = Draft202012Validator(recipe_schema()).iter_errors(_plain(root))
    found = (fault for error in _meant(errors) for fault in _told(error, root, name))
    return sorted(dict.fromkeys(found), key=lambda fault: fault[0].line)


def flow(value: object) -> str:
    """A plain value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_0-9][\w./-]*", value):
        return f"'{value}'"
    return str(value)


def _plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    return [_plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def _meant(errors: Iterable[ValidationError]) -> list[ValidationError]:
    """The errors worth telling: of a value of the wrong kind that alone, of alternatives those of the likeliest."""
    by_place: dict[tuple[str | int, ...], list[ValidationError]] = {}
    for error in errors:
        by_place.setdefault((*error.absolute_path,), []).append(error)
    found = []
    for here in by_place.values():
        for error in [e for e in here if e.validator == "type"][:1] or here:
            # Told by the alternatives that are for this kind of value, if there are some.
            fitting = [_meant(branch) for branch in _branches(error) if not any(map(_is_of_other_kind, branch))]
            least = min(fitting, key=len, default=[error])
            found += least
    return found


def _branches(error: ValidationError) -> list[list[ValidationError]]:
    """What each alternative of an ``anyOf`` has against the value."""
    found: dict[str | int, list[ValidationError]] = {}
    for inner in error.context or ():
        found.setdefault(inner.schema_path[0], []).append(inner)
    return list(found.values())


def _is_of_other_kind(error: ValidationError) -> bool:
    """Whether the value itself, not a part of it, is of a kind that the schema does not take."""
    branches = _branches(error)
    others = bool(branches) and all(any(map(_is_of_other_kind, branch)) for branch in branches)
    return not error.path and (error.validator == "type" or others)


def _kinds(error: ValidationError) -> list[str]:
    """The kinds of value that would do."""
    if error.validator == "type":
        return [_KINDS[str(error.validator_value)]]
    refused = [inner for branch in _branches(error) for inner in branch if _is_of_other_kind(inner)]
    return [kind for inner in refused for kind in _kinds(inner)]


def _told(error: ValidationError, root: Node, name: str) -> Iterator[Fault]:
    node, path = _at(root, error.absolute_path)
    line = node.key_line or node.line
    schema: Schema = error.schema if isinstance(error.schema, dict) else {}
    match error.validator:
        case "type" if "enum" in schema:
            text, line = _of_scalar(error, node, path, schema), node.line
        case "type" | "anyOf":
            kinds = " or ".join(dict.fromkeys(_kinds(error)))
            hint = _as_text(node, kinds) or _for_example(path, _examples(error))
            text = f"must be {kinds}, not {_shown(node)}{hint}"
        case "additionalProperties" if isinstance(node.value, dict):
            known = schema.get("properties", {})
            for key in [k for k in node.value if k not in known]:
                text = f"unknown key '{key}'{_instead(key, path, node.value, known)}"
                yield Place(name, node.value[key].key_line, path), text
            return
        case "required" if isinstance(node.value, dict):
            for key in [k for k in schema["required"] if k not in node.value]:
                # What must be there and can be only one thing is told whole.
                only = schema["properties"].get(key, {}).get("const")
                remedy = "" if only is None else f"; write '{key}: {only}'"
                yield Place(name, line, path), f"the key '{key}' is missing{remedy}"
            return
        case "pattern" if "propertyNames" in error.schema_path and isinstance(node.value, dict):
            key = str(error.instance)
            path, line = f"{path}.{key}", node.value[key].key_line
            text = f"'{key}' cannot be a key here; it {_pattern_told(schema, 'must match')}"
        case "minProperties" | "minLength":
            text, line = "must not be empty", line if error.validator == "minProperties" else node.line
        case "minItems":
            text = "must not be an empty list"
        case _:
            text, line = _of_scalar(error, node, path, schema), node.line
    yield Place(name, line, path), text + _as_number(node)


def _as_number(node: Node) -> str:
    """How a number is written that YAML 1.1 takes for a text, as it does unless power and point are written out."""
    found = _POWER.fullmatch(node.value) if isinstance(node.value, str) else None
    if found is None:
        return ""
    whole, point, sign, power = found.groups()
    return f"; YAML takes that for a text: write {whole}{point or '.0'}e{sign or '+'}{power}"


def _as_text(node: Node, kinds: str) -> str:
    """How a word is written that YAML 1.1 takes for a truth or another number: ``on``, ``no``, ``1_0``."""
    if "a string" not in kinds or not isinstance(node.value, bool | int) or node.written.lower() == _shown(node):
        return ""
    return f"; YAML takes {node.written} for that: write '{node.written}'"


def _at(root: Node, steps: Iterable[str | int]) -> tuple[Node, str]:
    """The node below these keys and indices, and how the path is written: ``rules[3].type``."""
    node, path = root, ""
    for step in steps:
        value: Any = node.value
        node = value[step]
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return node, path.removeprefix(".")


def _examples(error: ValidationError) -> Sequence[object]:
    """What the schema gives for a value there, the key's own examples before those of a definition it refers to."""
    schema: Any = recipe_schema()
    found: Sequence[object] = ()
    for step in error.absolute_schema_path:
        if step in ("properties", "additionalProperties", "items"):
            found = ()
        schema = schema[step]
        if isinstance(schema, dict):
            found = found or schema.get("examples", ())
            schema = resolved(schema)
            found = found or schema.get("examples", ())
    return found


def _for_example(path: str, examples: Sequence[object]) -> str:
    if not path:
        return "; a recipe is lines of 'key: value', the first of them 'qxmix: 1'"
    if path == "imatrix":
        return "; the matrix itself is given as --imatrix FILE, and here what is asked of it: imatrix: {missing: error}"
    key = "" if path.endswith("]") else f"{path.rpartition('.')[2]}: "
    return f"; for example {key}{flow(examples[0])}" if examples else ""


def _instead(key: str, path: str, value: dict[str, Node], known: Schema) -> str:
    """What to do about an unknown key."""
    if not path and key in resolved(recipe_schema()["properties"]["rules"]["items"])["properties"]:
        return f"; it belongs into a rule: rules: [{{{key}: ..., ...}}]"
    if close := near(key, list(known)):
        return close
    # ``{layers: first(1), last(1)}``: to YAML the comma ends the value, and what follows is a key.
    if "layers" in value and value[key].value is None:
        return f'; a value with a comma needs quotes: layers: "{value["layers"].value}, {key}"'
    return f"; known keys: {', '.join(known)}"


def _pattern_told(schema: Schema, otherwise: str) -> str:
    """What a text is to be, by the keyword from which editors say it, too."""
    return str(schema.get("patternErrorMessage", f"{otherwise} {schema['pattern']}"))


def _of_scalar(error: ValidationError, node: Node, path: str, schema: Schema) -> str:
    """What is wrong with a text or number of the right kind."""
    shown, limit = _shown(node), error.validator_value
    match error.validator:
        case "pattern":
            return f"{shown} {_pattern_told(schema, 'does not match')}"
        case "const":
            return f"must be {limit}, not {shown}"
        case "enum" | "type":
            names = [str(v) for v in schema["enum"]]
            hint = _as_list(node.value, path) or _several(node.value, names, path) or near(str(node.value), names)
            choice = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
            return f"must be {choice}, not {shown}{hint}"
        case "minimum" if path.endswith(".layers") and isinstance(node.value, int):
            return f"must be at least {limit}, not {shown}; the last of the layers are last({-node.value})"
        case _:
            most = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
            return f"must be {most[str(error.validator)]} {limit}, not {shown}"


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


def _shown(node: Node) -> str:
    if isinstance(node.value, str):
        return f"'{node.value}'" if len(node.value) <= _SHOWN else f"'{node.value[: _SHOWN - 3]}...'"
    if isinstance(node.value, dict | list) or node.value is None:
        return node.kind
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
