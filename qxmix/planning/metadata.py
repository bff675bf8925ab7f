"""The model's metadata as the recipe changes them."""

from __future__ import annotations

from typing import NamedTuple

from qxmix.container.fields import make_field, renamed
from qxmix.container.gguf_format import INTEGERS, ValueType
from qxmix.container.model import MetadataField, ModelHeader, Scalar, field_of
from qxmix.errors import Problem, RunError
from qxmix.recipe.metadata import MetadataEdit, MetadataValue, why_structural
from qxmix.recipe.model import Recipe

_USUAL = {
    **dict.fromkeys(("general.tags", "general.languages", "general.datasets"), ValueType.ARRAY),
    **dict.fromkeys(("general.base_model.count", "general.dataset.count"), ValueType.UINT32),
}
"""Types that the GGUF specification gives to keys; all others under ``general.`` that describe a model are strings."""
_KINDS = {bool: ValueType.BOOL, str: ValueType.STRING, tuple: ValueType.ARRAY}
"""Of the values of other keys; of a number there are ten types."""
_SHOWN = 60
"""Characters of a value that a plan shows: a chat template is a page long."""
_FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})


class Edited(NamedTuple):
    """Metadata after a recipe's edits."""

    fields: tuple[MetadataField, ...]
    problems: tuple[Problem, ...]
    """Edits that cannot be made, which are errors, and those that find nothing to do, which are warnings."""


def edited(recipe: Recipe, header: ModelHeader) -> Edited:
    """The fields of a model as the output is to have them, before quantizing adds its own.

    A field that is set or renamed keeps its place; a new one goes to the end.
    """
    fields = list(header.metadata)
    problems = []
    for edit in recipe.metadata:
        problem = _structural(edit, header.architecture) or _edit(edit, fields)
        if problem is not None:
            problems.append(problem)
    return Edited(tuple(fields), tuple(problems))


def _structural(edit: MetadataEdit, architecture: str) -> Problem | None:
    for key in filter(None, (edit.key, edit.to)):
        if reason := why_structural(key, architecture):
            return Problem(edit.where, f"'{key}' cannot be changed: {reason}", id="metadata")
    return None


def _edit(edit: MetadataEdit, fields: list[MetadataField]) -> Problem | None:
    """Make one edit in ``fields``."""
    old = field_of(fields, edit.key)
    if edit.action == "set":
        made = _field(edit, old)
        if isinstance(made, Problem):
            return made
        _put(fields, old, made)
    elif old is None:
        text = f"the model has no key '{edit.key}' to {edit.action}"
        return Problem(edit.where, text, "warning", "metadata-unmatched")
    elif edit.action == "remove":
        fields.remove(old)
    elif field_of(fields, edit.to) is not None:
        return Problem(edit.where, f"the model has '{edit.to}' already; remove it, or choose another", id="metadata")
    else:
        _put(fields, old, renamed(old, edit.to))
    return None


def _put(fields: list[MetadataField], old: MetadataField | None, new: MetadataField) -> None:
    if old is None:
        fields.append(new)
    else:
        fields[fields.index(old)] = new


def _field(edit: MetadataEdit, old: MetadataField | None) -> MetadataField | Problem:
    """The field that an edit makes, or what is wrong with its value."""
    assert edit.value is not None
    stated = None if edit.type is None else ValueType[edit.type.upper()]
    if old is not None and stated is not None and stated != old.value_type:
        text = f"'{edit.key}' is {_named(old.value_type)} in the model, and engines read nothing else; not {edit.type}"
        return Problem(edit.where, text, id="metadata")
    wanted = _type_of(edit.key, edit.value, old, stated)
    if wanted is None:
        text = f"say which number '{edit.key}' is: {edit.key}: {{type: uint32, value: {edit.value}}}"
        return Problem(edit.where, text, id="metadata")
    if not _fits(edit.value, wanted, old):
        text = f"'{edit.key}' holds {_named(wanted)}, not {_shown(edit.value)}"
        quote = f"; quote it: '{edit.value}'" if wanted == ValueType.STRING else ""
        return Problem(edit.where, text + quote, id="metadata")
    try:
        # A number, as was seen; a whole one can be larger than any float.
        value: Scalar | tuple[str, ...] = float(edit.value) if wanted in _FLOATS else edit.value  # type: ignore[arg-type]
        return make_field(edit.key, value, wanted, ValueType.STRING if wanted == ValueType.ARRAY else None)
    except (RunError, OverflowError):
        text = f"{edit.value} is out of the range of {_named(wanted)}, which '{edit.key}' holds"
        return Problem(edit.where, text, id="metadata")


def _type_of(key: str, value: MetadataValue, old: MetadataField | None, stated: ValueType | None) -> ValueType | None:
    """The type a key must have; None where a number's cannot be told."""
    if old is not None:
        return ValueType(old.value_type)
    if stated is not None:
        return stated
    return _USUAL.get(key) or (ValueType.STRING if key.startswith("general.") else _KINDS.get(type(value)))


def _fits(value: MetadataValue, wanted: ValueType, old: MetadataField | None) -> bool:
    """Whether a value can be of a type at all; its range is seen when it is packed."""
    if wanted == ValueType.ARRAY:
        of_strings = old is None or old.array is None or old.array[0] == ValueType.STRING
        return isinstance(value, tuple) and of_strings
    if wanted == ValueType.STRING:
        return isinstance(value, str)
    if wanted == ValueType.BOOL:
        return isinstance(value, bool)
    if wanted in INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(value_type: int) -> str:
    kind = ValueType(value_type)
    names = {ValueType.STRING: "a string", ValueType.ARRAY: "an array", ValueType.BOOL: "true or false"}
    return names.get(kind) or f"a number ({kind.name.lower()})"


def _shown(value: MetadataValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "a list"
    return f"'{value}'" if isinstance(value, str) else str(value)


def changes(recipe: Recipe, header: ModelHeader) -> tuple[tuple[str, str, str], ...]:
    """What the output's metadata have other than the model's: key, what was, what is; empty where it is not there."""
    was = {f.key: f for f in header.metadata}
    now = {f.key: f for f in edited(recipe, header).fields}
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return tuple((key, _text(was.get(key)), _text(now.get(key))) for key in keys)


def _text(field: MetadataField | None) -> str:
    if field is None:
        return ""
    if field.array is not None:
        return f"an array of {field.array[1]:,}"
    text = "" if field.value is None else _shown(field.value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]}...'"
