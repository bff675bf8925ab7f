"""The structure of a recipe: ``schemas/recipe.schema.json``, the file that editors use, too.

Whether a tree fits is asked of every recipe, and what is wrong only of those that do not.  :func:`fits` reads yes or no
off the schema; ``jsonschema``, whose import alone costs a fifth of what a plan may, then finds the errors that
:mod:`qxmix.recipe.faults` puts into words.  A test shows both what hypothesis thinks of: they never disagree.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from qxmix.resources import data_dir

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

Schema = dict[str, Any]


@cache
def recipe_schema() -> Schema:
    """The schema as it is shipped."""
    with (data_dir("schemas") / "recipe.schema.json").open(encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


def fits(root: Node) -> bool:
    """Whether the schema accepts a recipe's file."""
    return _fits(root, recipe_schema())


def resolved(schema: Schema) -> Schema:
    """What a ``$ref`` stands for; any other schema as it is."""
    while "$ref" in schema:
        target: Any = recipe_schema()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _fits(node: Node, schema: Schema) -> bool:
    schema = resolved(schema)
    if "anyOf" in schema:
        return any(_fits(node, option) for option in schema["anyOf"])
    kind, value = schema.get("type"), node.value
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        return kind in (None, "object") and _fits_mapping(value, schema)
    if isinstance(value, list):
        items = schema.get("items", {})
        is_list = kind in (None, "array") and len(value) >= schema.get("minItems", 0)
        return is_list and all(_fits(item, items) for item in value)
    return _fits_scalar(value, kind, schema)


def _fits_mapping(value: dict[str, Node], schema: Schema) -> bool:
    known: Schema = schema.get("properties", {})
    extra = schema.get("additionalProperties", {})
    pattern = schema.get("propertyNames", {}).get("pattern", "")
    return (
        len(value) >= schema.get("minProperties", 0)
        and all(key in value for key in schema.get("required", ()))
        and all(re.search(pattern, key) for key in value)
        and all(
            _fits(child, known[key]) if key in known else extra is not False and _fits(child, extra)
            for key, child in value.items()
        )
    )


def _fits_scalar(value: object, kind: str | None, schema: Schema) -> bool:
    match value:
        case bool():  # which to Python is a number, too
            return kind in (None, "boolean") and schema.get("const", value) is value
        case str():
            return (
                kind in (None, "string")
                and len(value) >= schema.get("minLength", 0)
                and re.search(schema.get("pattern", ""), value) is not None
            )
        case int() | float():
            return (
                (kind in (None, "number") or (kind == "integer" and value == value // 1))
                and schema.get("const", value) == value
                and schema.get("minimum", value) <= value <= schema.get("maximum", value)
                and value > schema.get("exclusiveMinimum", value - 1)
            )
    return kind in (None, "null")
