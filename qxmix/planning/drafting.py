"""From what the rules say of a tensor to its draft, and to the tensor as it is planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import TensorInfo
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.choose import Choice, Decisions
from qxmix.planning.draft import Draft
from qxmix.planning.fallback import Types, effective_type
from qxmix.planning.feedback import find_feedback, fitting_entry, wanted_feedback
from qxmix.planning.importance import find_entry
from qxmix.planning.kept import Kept, Why
from qxmix.planning.model import PlannedTensor
from qxmix.planning.scales import is_symmetric, wanted_factor
from qxmix.planning.view import ModelView
from qxmix.recipe.model import KEEP, Fallback, Policy, Recipe

if TYPE_CHECKING:
    from qxmix.container.moments import Moments


def drafts_of(
    recipe: Recipe, view: ModelView, decisions: Decisions, imatrix: Imatrix | None, types: Types
) -> list[Draft]:
    """Follow choices through fallback and importance.

    Args:
        recipe: The recipe.
        view: The model.
        decisions: What the rules say of its tensors.
        imatrix: The importance matrix, or None.
        types: The types by name.

    Returns:
        One draft for each tensor of the model, in order.

    """
    drafts: list[Draft | None] = [None] * len(view.header.tensors)
    for alike, found in groups(recipe, view, decisions, types):
        for i in bits.indices(found):
            drafts[i] = _like(alike, view.header.tensors[i], imatrix, recipe)
    return [d for d in drafts if d is not None]


def groups(recipe: Recipe, view: ModelView, decisions: Decisions, types: Types) -> Iterator[tuple[Draft, Tensors]]:
    """All tensors by what becomes of them, with the draft of the first of each group, importance left aside."""
    said: list[tuple[Choice | Kept, Tensors]] = [*decisions.chosen, *decisions.kept.items()]
    for choice, among in said:
        for kind in view.kinds:
            if found := kind.tensors & among:
                yield draft(recipe, view.header.tensors[bits.first(found)], choice, types), found


def _like(a: Draft, tensor: TensorInfo, imatrix: Imatrix | None, recipe: Recipe) -> Draft:
    """The draft of a tensor that is decided like another, with its own importance."""
    entry, problem = None, None
    if a.reads_importance and (a.rule is None or recipe.rules[a.rule].imatrix):
        entry, problem = find_entry(tensor, imatrix, recipe.engines)
    return Draft(
        tensor, a.rule, a.requested, a.quant_type, a.reason, a.kept, a.steps, a.error, entry, problem, a.symmetric
    )


def draft(recipe: Recipe, tensor: TensorInfo, choice: Choice | Kept, types: Types) -> Draft:
    """Follow a choice through fallback, importance left aside.

    Args:
        recipe: The recipe.
        tensor: The tensor.
        choice: What the rules say, or why they have no say.
        types: The types by name.

    """
    if isinstance(choice, Kept):
        return Draft(tensor, None, tensor.quant_type, tensor.quant_type, f"kept: {choice}", choice)
    origin = _origin(recipe, choice.rule)
    if choice.type == KEEP:
        return Draft(
            tensor, choice.rule, tensor.quant_type, tensor.quant_type, f"kept by {origin}", Kept(Why.RULE, (origin,))
        )
    requested = types[choice.type]
    effective = effective_type(
        tensor, requested, _fallbacks_of(recipe, choice.rule), _policy_of(recipe), recipe.engines, types
    )
    reason = "; ".join((origin, *choice.steps, *map(str, effective.steps)))
    return Draft(
        tensor,
        choice.rule,
        requested,
        effective.quant_type,
        reason if effective.quant_type != tensor.quant_type else f"{reason}; it is {tensor.type} already",
        steps=effective.steps,
        error=effective.error,
        symmetric=is_symmetric(recipe, choice.rule, effective.quant_type),
    )


def _fallbacks_of(recipe: Recipe, rule: int | None) -> tuple[Fallback, ...]:
    """The fallback of the rule, if it has one, then the recipe's."""
    own = recipe.rules[rule].fallback if rule is not None else None
    return (recipe.fallback,) if own is None else (own, recipe.fallback)


def _policy_of(recipe: Recipe) -> Policy:
    """The policy where no fallback states one: that of the engine; two engines have none in common."""
    return "error" if recipe.target == "any" else recipe.target


def planned(recipe: Recipe, found: Draft, moments: Moments | None = None) -> PlannedTensor:
    """The draft as a planned tensor at offset 0 of the first file."""
    tensor = found.tensor
    rule = recipe.rules[found.rule] if found.rule is not None else None
    quant_type = found.quant_type if found.encodes else None
    feedback = (
        find_feedback(tensor, quant_type, wanted_feedback(recipe, found.rule), moments)
        if quant_type and not found.symmetric else None
    )  # fmt: skip
    takes_factor = quant_type is not None and quant_type.takes_factor and feedback is None
    scale = wanted_factor(recipe, found.rule, quant_type) if quant_type and takes_factor else None
    return PlannedTensor(
        source=tensor,
        quant_type=found.quant_type,
        action="encode" if found.encodes else "copy",
        kept=found.kept,
        reason=found.reason,
        requested=found.requested.name if found.requested is not None else tensor.type,
        rule=found.rule,
        importance=found.importance if found.encodes else None,
        search=(rule.search if rule else None) or recipe.search,
        # A type that does not fit is an error of the plan; its size is then that of the tensor as it is.
        nbytes=quant_type.nbytes(tensor.shape) if quant_type and quant_type.fits(tensor.n_cols) else tensor.nbytes,
        shard=0,
        offset=0,
        feedback=feedback,
        symmetric=found.encodes and found.symmetric,
        scale=scale,
        second=fitting_entry(tensor, moments) if scale == "auto" else None,
    )


def _origin(recipe: Recipe, rule: int | None) -> str:
    """``rules[3] (recipe.yaml:12)`` or ``default``."""
    if rule is None:
        return "default"
    where = recipe.rules[rule].where
    return f"{where.path} ({replace(where, path='')})"
