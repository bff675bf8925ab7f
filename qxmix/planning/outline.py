"""What a plan comes to, without the plan: its size, and what refuses it.

A model has few kinds of tensors, and what becomes of one of a kind becomes of all that a rule takes.  A list of two
hundred recipes is thus told in the time of ten plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from qxmix.container.layout import file_nbytes
from qxmix.container.model import ModelHeader
from qxmix.errors import Problem
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.draft import Draft
from qxmix.planning.drafting import groups, planned
from qxmix.planning.fallback import Types
from qxmix.planning.findings import type_errors, type_warnings
from qxmix.planning.make import decide, make_plan
from qxmix.planning.metadata import edited
from qxmix.planning.model import Alike, Plan
from qxmix.planning.rule_findings import expect_problems, rule_problems
from qxmix.planning.sizes import fields_of, file_type_of
from qxmix.planning.view import ModelView
from qxmix.quants import QuantType, get
from qxmix.recipe.model import Recipe

_NO_IMATRIX = "imatrix-missing"


@dataclass(frozen=True, slots=True)
class Outline:
    """A recipe applied to a model, in three numbers."""

    nbytes: int
    """Of the output, in one file."""
    bpw: float
    """Bits per weight over all tensors."""
    refused: tuple[str, ...]
    """Ids of the errors of the plan, but for importance that is missing: that there is no matrix here is no reason."""
    warned: bool
    """Whether the plan may have a warning about anything else; it has none where this is False."""
    alike: tuple[Alike, ...]
    """What is decided, in the order of the first tensors."""


def outline(recipe: Recipe, view: ModelView) -> Outline:
    """The outline of the plan that :func:`make_plan` would make without an importance matrix.

    Raises:
        RecipeError: a pattern of the recipe takes for ever on a tensor's name.
        PlanError: the output would be larger than a file can be.

    """
    header = view.header
    if needs_plan(recipe):
        return _outline_of(make_plan(recipe, header, view=view))
    chooser, decisions = decide(recipe, view, None)
    types = Types()
    alike = sorted(groups(recipe, view, decisions, types), key=lambda group: bits.first(group[1]))
    drafts = [draft for draft, _ in alike]
    found = [(draft, tensors.bit_count()) for draft, tensors in alike]
    sizes, by_type = _sizes(recipe, found)
    encodes = any(draft.encodes for draft in drafts)
    file_type = file_type_of(recipe, header, by_type, encodes=encodes)
    nbytes = file_nbytes(view.table_nbytes, fields_of(recipe, header, file_type), sizes.items())
    n_weights = sum(n * draft.tensor.n_weights for draft, n in found)
    bpw = 8 * sum(size * n for size, n in sizes.items()) / max(1, n_weights)
    before, behind = type_errors(recipe, header.path, drafts, types)
    edits = edited(recipe, header).problems
    counts = list(expect_problems(recipe, chooser, decisions))
    exceeded = recipe.limits.exceeded(bpw, nbytes)
    refused = (*_ids(before), *exceeded, *_ids([*(p for p in edits if p.severity == "error"), *counts, *behind]))
    suspects = (*edits, *rule_problems(recipe, chooser, decisions), *type_warnings(recipe, header, drafts))
    warned = any(p.severity == "warning" and p.id not in recipe.silence for p in suspects)
    told = tuple(_alike(draft, tensors) for draft, tensors in alike)
    return Outline(nbytes, bpw, tuple(dict.fromkeys(refused)), warned, told)


def nbytes_of(found: Outline, header: ModelHeader) -> dict[str, int]:
    """Bytes that each tensor has in the output, by name, of a recipe that is not refused."""
    nbytes = {t.name: t.nbytes for t in header.tensors}
    for alike in found.alike:
        quant_type = get(alike.type) if alike.encodes else None
        if quant_type is not None:
            encoded = (header.tensors[i] for i in bits.indices(alike.tensors))
            nbytes |= {t.name: quant_type.nbytes(t.shape) for t in encoded}
    return nbytes


def needs_plan(recipe: Recipe) -> bool:
    """Whether it takes a plan to tell: devices hold single tensors, and ties are between those of a layer."""
    return bool(recipe.limits.ctx) or any(rule.tie for rule in recipe.rules)


def _outline_of(plan: Plan) -> Outline:
    """The outline of a plan that is there, of an output in one file."""
    refused = _ids(p for p in plan.problems if p.severity == "error")
    warned = any(p.severity == "warning" and p.id != _NO_IMATRIX for p in plan.problems)
    return Outline(plan.file_nbytes, plan.bpw, refused, warned, plan.alike)


def _alike(draft: Draft, tensors: Tensors) -> Alike:
    requested = draft.requested.name if draft.requested is not None else draft.tensor.type
    return Alike(tensors, draft.rule, requested, draft.type, bool(draft.kept), draft.encodes)


def _sizes(recipe: Recipe, found: list[tuple[Draft, int]]) -> tuple[Counter[int], Counter[QuantType]]:
    """How many tensors of each size there are in the output, and the bytes of each type."""
    sizes: Counter[int] = Counter()
    by_type: Counter[QuantType] = Counter()
    for draft, n in found:
        tensor = planned(recipe, draft)
        sizes[tensor.nbytes] += n
        if tensor.quant_type is not None:
            by_type[tensor.quant_type] += n * tensor.nbytes
    return sizes, by_type


def _ids(problems: Iterable[Problem]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(p.id for p in problems if p.id != _NO_IMATRIX))
