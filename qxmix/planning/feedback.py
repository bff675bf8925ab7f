"""Which tensors are encoded with error feedback, and what there is to say about their moments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from qxmix.container.imatrix import twins_of
from qxmix.container.model import TensorInfo
from qxmix.errors import Problem
from qxmix.planning.draft import Draft
from qxmix.planning.importance import is_exempt, of_no_tensor
from qxmix.planning.model import Plan, TensorFeedback
from qxmix.planning.silence import unsilenced
from qxmix.quants import QuantType
from qxmix.quants.feedback.options import Feedback
from qxmix.recipe.model import Recipe

if TYPE_CHECKING:
    from qxmix.container.moments import Moments


def wanted_feedback(recipe: Recipe, rule: int | None) -> Feedback | None:
    """What the rule says about feedback, or else the recipe."""
    own = recipe.rules[rule].feedback if rule is not None else None
    return recipe.feedback if own is None else own or None


def find_feedback(
    tensor: TensorInfo, quant_type: QuantType | None, wanted: Feedback | None, moments: Moments | None
) -> TensorFeedback | None:
    """How a tensor of this type is encoded with feedback; None: it is encoded without."""
    if wanted is None or not _has_feedback(quant_type):
        return None
    entry = fitting_entry(tensor, moments)
    return None if entry is None else TensorFeedback(entry, wanted)


def fitting_entry(tensor: TensorInfo, moments: Moments | None) -> str | None:
    """Name of the entry with a tensor's second moments; None where there is none of its shape."""
    entry = _entry_name(tensor, moments) if moments is not None else None
    return entry if entry is not None and moments is not None and _fits(tensor, moments, entry) else None


def _has_feedback(quant_type: QuantType | None) -> bool:
    """Whether a type can be encoded with feedback."""
    return quant_type is not None and quant_type.feeds_back


def _entry_name(tensor: TensorInfo, moments: Moments) -> str | None:
    """Its own entry, or that of a tensor with the same input."""
    names = (tensor.name, *twins_of(tensor.name))
    return next((n for n in names if n in moments.entries), None)


def _fits(tensor: TensorInfo, moments: Moments, name: str) -> bool:
    entry = moments.entries[name]
    return (entry.n_cols, entry.n_matrices) == (tensor.n_cols, tensor.n_matrices)


def feedback_problems(plan: Plan, drafts: list[Draft]) -> Iterator[Problem]:
    """Moments that are another model's, have other shapes or lack a tensor, and feedback that does nothing."""
    wanting = _wanting(plan.recipe, drafts)
    able = [d for d in wanting if _able(d)]
    yield from _without_feedback(unsilenced(plan.recipe, (d for d in wanting if not _able(d)), "feedback-type"))
    if plan.moments is None:
        yield from without_moments(plan.recipe, drafts)
        return
    if not wanting and not any(t.second for t in plan.tensors):
        text = "no rule asks for feedback, so the moments change nothing; write 'feedback: true' into the recipe"
        yield Problem(plan.moments.path.name, text, "warning", "moments-unused")
    yield from _alien(plan, plan.moments)
    heard = unsilenced(plan.recipe, able, "moments-missing")
    missing = [d for d in heard if _entry_name(d.tensor, plan.moments) is None and not is_exempt(d.tensor)]
    if missing:
        text = f"the moments have nothing for {_names(missing)}, encoded without the feedback asked for"
        yield Problem(missing[0].tensor.name, text, "warning", "moments-missing")
    yield from _misshapen(plan.moments, able)


def without_moments(recipe: Recipe, drafts: Iterable[Draft]) -> Iterator[Problem]:
    """Feedback that is asked for where no moments are given."""
    if able := [d for d in _wanting(recipe, drafts) if _able(d)]:
        text = f"no moments are given (--moments), so {_names(able)} are encoded without the feedback asked for"
        yield Problem("", text, "warning", "moments-none")


def _wanting(recipe: Recipe, drafts: Iterable[Draft]) -> list[Draft]:
    return [d for d in drafts if d.encodes and wanted_feedback(recipe, d.rule) is not None]


def _able(draft: Draft) -> bool:
    return _has_feedback(draft.quant_type) and not draft.symmetric


def _without_feedback(drafts: Iterable[Draft]) -> Iterator[Problem]:
    by_type: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        by_type[f"{draft.type} with symmetric levels" if draft.symmetric else draft.type].append(draft)
    for type_name, members in by_type.items():
        text = f"'feedback' changes nothing: {type_name} has none, and {_names(members)} are encoded without"
        yield Problem(members[0].tensor.name, text, "note", "feedback-type")


def _alien(plan: Plan, moments: Moments) -> Iterator[Problem]:
    """Entries for tensors that the model does not have: the moments are another model's."""
    if alien := of_no_tensor(plan, moments.entries):
        text = f"{alien}; give moments that were measured on this model"
        yield Problem(moments.path.name, text, "error", "moments-model")


def _misshapen(moments: Moments, drafts: list[Draft]) -> Iterator[Problem]:
    for draft in drafts:
        name = _entry_name(draft.tensor, moments)
        if name is None or _fits(draft.tensor, moments, name):
            continue
        entry, tensor = moments.entries[name], draft.tensor
        text = (
            f"the moments are of {entry.n_matrices} matrices with {entry.n_cols} columns and the tensor has "
            f"{tensor.n_matrices} with {tensor.n_cols}; give moments that were measured on this model"
        )
        yield Problem(tensor.name, text, "error", "moments-shape")


def _names(drafts: list[Draft]) -> str:
    names = [d.tensor.name for d in drafts]
    if len(names) <= 2:  # noqa: PLR2004 - as many as are named
        return " and ".join(names)
    return f"{len(names):,} tensors ({names[0]}, {names[1]}, ...)"
