"""What differs between two type maps, whatever they come from: recipes, plans, lock files, models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxmix.container.header import read_header
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.container.remote.address import is_remote
from qxmix.errors import Problem, QxmixError, RecipeError
from qxmix.plan import Plan, make_plan
from qxmix.quants import find
from qxmix.recipe import load_recipe
from qxmix.recipe.once import LARGEST, stream_of
from qxmix.recipe.revision import extracted, revision_of

if TYPE_CHECKING:
    from qxmix.container.moments import Moments

_LARGEST_JSON = LARGEST
"""Largest plan or lock file that is read, in bytes; the plan of a 1,000-tensor model has half a MB."""


class DiffError(QxmixError):
    """A side is neither recipe, plan, lock file nor model, or a recipe has no model to decide about."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a side."""

    type: str
    shape: tuple[int, ...] | None
    """Row length first; None where only the type is known (a lock file without a model)."""
    nbytes: int | None
    """Bytes of data; None where neither the side nor its shape tells."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things that are compared."""

    label: str
    entries: Mapping[str, Entry]
    problems: tuple[Problem, ...] = ()
    """What a recipe's plan would be refused for; its types stand all the same."""
    file_nbytes: int | None = None
    """Bytes of all files, headers included; None where the side does not tell."""
    n_fallbacks: int | None = None
    """Tensors that got another type than was asked for; None where the side does not tell."""
    plan: Plan | None = None
    """Of a recipe: what it makes of the model."""

    @property
    def nbytes(self) -> int | None:
        """Bytes of all tensors, or None where that of one is not known."""
        sizes = [e.nbytes for e in self.entries.values()]
        return sum(n for n in sizes if n is not None) if None not in sizes else None

    @property
    def bpw(self) -> float | None:
        """Bits per weight over all tensors, or None where a size or a shape is not known."""
        shapes = [e.shape for e in self.entries.values()]
        if self.nbytes is None or not shapes or None in shapes:
            return None
        return 8 * self.nbytes / max(1, sum(prod(s) for s in shapes if s is not None))


@dataclass(frozen=True, slots=True)
class Change:
    """One tensor that differs; ``a`` or ``b`` is None where it is in the other side only."""

    name: str
    a: Entry | None
    b: Entry | None

    @property
    def delta(self) -> int | None:
        """Bytes from A to B, or None where a size is not known."""
        sizes = [0 if e is None else e.nbytes for e in (self.a, self.b)]
        return None if sizes[0] is None or sizes[1] is None else sizes[1] - sizes[0]


@dataclass(frozen=True, slots=True)
class Diff:
    """Two sides and what differs."""

    a: Side
    b: Side
    changes: tuple[Change, ...]
    """In the order of A, then what only B has."""


def compare(a: Side, b: Side) -> Diff:
    """Compare types and shapes by name."""
    changes = [
        Change(name, entry, other)
        for name, entry in a.entries.items()
        if (other := b.entries.get(name)) is None or not _same(entry, other)
    ]
    changes += [Change(name, None, entry) for name, entry in b.entries.items() if name not in a.entries]
    return Diff(a, b, tuple(changes))


def _same(a: Entry, b: Entry) -> bool:
    return a.type == b.type and (a.shape is None or b.shape is None or a.shape == b.shape)


def load_sides(a: str, b: str, model: str | None, imatrix: Imatrix | None) -> tuple[Side, Side]:
    """Load both sides.  A recipe is planned on ``model``, or else on the other side if that is a model.

    Raises:
        DiffError: a recipe has no model, or a JSON file is neither plan nor lock.
        QxmixError: whatever reading one of them finds.

    """
    header = read_header(model) if model is not None else None
    if header is None:
        header = next((read_header(s) for s in (a, b) if kind_of(s) == "model"), None)
    return load_side(a, header, imatrix), load_side(b, header, imatrix)


def kind_of(text: str) -> str:
    """``model``, ``json`` or ``recipe``, told from the first bytes; a name that is no file is a shipped recipe."""
    if is_remote(text):
        return "model"
    try:
        start = stream_of(text)
        if start is None:
            with Path(text).open("rb") as file:
                start = file.read(64)
    except OSError:
        return "recipe"
    if start.startswith(b"GGUF"):
        return "model"
    # A recipe may be written in braces, too.
    return "json" if re.match(rb'\s*\{\s*("(?!qxmix")|\}|$)', start) else "recipe"


def load_side(
    text: str, header: ModelHeader | None, imatrix: Imatrix | None, moments: Moments | None = None,
    *, model_is: str = "as the third argument",
) -> Side:  # fmt: skip
    """Load one side.

    Args:
        text: A path, the name of a shipped recipe, or ``REV:path`` of the git repository one is in.
        header: The model that recipes are planned on, or None.
        imatrix: What they are planned with, or None.
        moments: Second moments for the feedback they ask for, or None.
        model_is: How the model is given, for who did not.

    Raises:
        DiffError: a recipe has no model, or a JSON file is neither plan nor lock.
        QxmixError: whatever reading it finds.

    """
    revision = revision_of(text) if not is_remote(text) else None
    if revision is None:
        return _load_side(text, header, imatrix, moments, model_is)
    with extracted(revision) as found:
        try:
            side = _load_side(str(found.file), header, imatrix, moments, model_is)
        except QxmixError as error:
            raise type(error)([found.told(p) for p in error.problems]) from None
    return replace(side, label=text, problems=tuple(map(found.told, side.problems)))


def _load_side(
    text: str, header: ModelHeader | None, imatrix: Imatrix | None, moments: Moments | None, model_is: str
) -> Side:
    kind = kind_of(text)
    if kind == "model":
        return _of_header(text, read_header(text))
    if kind == "json":
        return _of_json(text, header)
    recipe = load_recipe(text)
    if header is None:
        raise DiffError.at(text, f"is a recipe, and what it decides depends on the model; give one {model_is}")
    plan = make_plan(recipe, header, imatrix, moments=moments)
    on = f" (planned on {header.path.name})"
    errors = tuple(replace(p, text=p.text + on) for p in plan.problems if p.severity == "error")
    if undecided := [p for p in errors if p.id == "fallback-error"]:
        raise RecipeError(undecided)
    return side_of(plan, text, errors)


def side_of(plan: Plan, label: str, problems: tuple[Problem, ...] = ()) -> Side:
    """A plan as a side, with what it would be refused for."""
    n_fallbacks = sum(t.requested != t.type for t in plan.tensors)
    entries = {t.name: Entry(t.type, t.source.shape, t.nbytes) for t in plan.tensors}
    return Side(label, entries, problems, plan.file_nbytes, n_fallbacks, plan)


def _of_header(label: str, header: ModelHeader) -> Side:
    entries = {t.name: Entry(t.type, t.shape, t.nbytes) for t in header.tensors}
    return Side(label, entries, file_nbytes=sum(header.file_nbytes))


def _of_json(text: str, header: ModelHeader | None) -> Side:
    path = Path(text)
    content: Any = None
    data = stream_of(text)
    if data is not None or path.stat().st_size <= _LARGEST_JSON:
        try:
            content = json.loads(path.read_bytes() if data is None else data)
        except (ValueError, RecursionError) as error:
            raise DiffError.at(text, f"is no JSON: {error}") from None
    try:
        if content["qxmix_plan"] == 1:
            tensors = content["tensors"]
            entries = {str(t["name"]): _entry(t["type"], t["shape"], t["nbytes"]) for t in tensors}
            n_fallbacks = sum(t["requested"] != t["type"] for t in tensors)
            return Side(text, entries, (), int(content["file_nbytes"]), n_fallbacks)
    except (KeyError, TypeError, ValueError):
        pass
    try:
        if content["qxmix_lock"] == 1:
            shapes = {t.name: t.shape for t in header.tensors} if header is not None else {}
            entries = {str(n): _sized(str(t), shapes.get(n)) for n, t in content["tensors"].items()}
            return Side(text, entries, file_nbytes=sum(map(int, content["file_nbytes"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise DiffError.at(
        text, "is neither a plan (qxmix plan --json) nor a lock file (qxmix plan --lock) of this version"
    )


def _entry(type_name: object, shape: list[object], nbytes: object) -> Entry:
    return Entry(str(type_name), tuple(int(str(n)) for n in shape), int(str(nbytes)))


def _sized(type_name: str, shape: tuple[int, ...] | None) -> Entry:
    quant_type = find(type_name)
    fits = quant_type is not None and shape is not None and quant_type.fits(shape[0])
    return Entry(type_name, shape, quant_type.nbytes(shape) if quant_type and shape and fits else None)
