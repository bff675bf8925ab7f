"""What there is to say about the importance matrix of a plan: none, not for this tensor, or another model's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from qxmix.container.imatrix import Imatrix
from qxmix.errors import Problem, Severity
from qxmix.importance.coverage import THIN_SHARE, coverage, numbers
from qxmix.planning.draft import Draft, names_of
from qxmix.planning.importance import missing_is, of_no_tensor
from qxmix.planning.model import Plan
from qxmix.planning.silence import is_silenced, unsilenced
from qxmix.quants import QuantType
from qxmix.recipe.model import ImatrixPolicy, Recipe

_MOST_TENSORS = 6
"""Tensors with unseen or thin experts that are named before the rest is counted; ``imatrix stats`` names all."""


def importance_problems(plan: Plan, drafts: list[Draft]) -> Iterator[Problem]:
    """Missing and unfit entries, one problem per cause, and entries that no tensor has use for.

    Args:
        plan: The plan.
        drafts: What was decided about each of its tensors.

    """
    missing: dict[tuple[Severity, str, QuantType], list[Draft]] = defaultdict(list)
    strange: dict[str, list[Problem]] = defaultdict(list)
    fitting = 0
    for draft in drafts:
        if not draft.encodes or draft.quant_type is None:
            continue
        fitting += draft.importance is not None
        found = draft.entry_problem
        if found is not None and not is_silenced(plan.recipe, draft.rule, found.id):
            strange[found.id].append(found)
        if draft.importance is None and not draft.symmetric and not _foreseen(plan.recipe, draft):
            severity, because = missing_is(draft.tensor, draft.quant_type, plan.recipe)
            because += "" if _is_weighted(plan.recipe, draft) else ", and its rule says 'imatrix: false'"
            # That an entry does not fit is told, and is no smaller loss than that there is none.
            if severity == "warning" and is_silenced(plan.recipe, draft.rule, "imatrix-missing"):
                continue
            if severity == "error" or (severity is not None and draft.entry_problem is None):
                missing[severity, because, draft.quant_type].append(draft)
    if plan.imatrix is not None and len(strange["imatrix-size"]) > max(1, fitting):
        n_wrong = len(strange.pop("imatrix-size"))
        text = (
            f"is another model's: of its entries for tensors of {plan.header.path.name} {n_wrong:,} have the wrong "
            f"size and {fitting:,} fit; give one that was made from this model, or none"
        )
        yield Problem(plan.imatrix.path.name, text, id="imatrix-model")
    for problems in filter(None, strange.values()):
        more = f"; so with {len(problems) - 1:,} more tensors" if len(problems) > 1 else ""
        yield replace(problems[0], text=problems[0].text + more)
    yield from _unweighted(plan, missing) if plan.imatrix is None else _uncovered(missing)
    if plan.imatrix is not None:
        yield from _unused(plan, plan.imatrix)
        yield from _thin_experts(plan, plan.imatrix)


def _is_weighted(recipe: Recipe, draft: Draft) -> bool:
    return draft.rule is None or recipe.rules[draft.rule].imatrix


def _foreseen(recipe: Recipe, draft: Draft) -> bool:
    """Whether the rule wants none, or asks for tensors without, and the type is one that can do without.

    Such a rule is the recipe's answer to what the matrix lacks, whatever else it says of missing entries.
    """
    if draft.rule is None or draft.quant_type is None:
        return False
    if not _is_weighted(recipe, draft):
        return draft.quant_type.importance != "required"
    when = recipe.rules[draft.rule].when
    if not any(test.fact == "has_importance" for tests in when for test in tests):
        return False
    return missing_is(draft.tensor, draft.quant_type, replace(recipe, imatrix=ImatrixPolicy()))[0] != "error"


def _unused(plan: Plan, imatrix: Imatrix) -> Iterator[Problem]:
    """Entries for tensors that the model does not have: the matrix is probably another model's."""
    if alien := of_no_tensor(plan, imatrix.entries):
        text = f"the importance matrix {alien}; was it made from this model?"
        yield Problem(imatrix.path.name, text, "warning", "imatrix-unused")


def _thin_experts(plan: Plan, imatrix: Imatrix) -> Iterator[Problem]:
    """Experts that the text did not reach, or hardly, of the tensors that are encoded with an importance."""
    prior = plan.recipe.imatrix.prior
    where = imatrix.path.name
    read = [c for c in coverage(imatrix) if c.entry in {t.importance for t in plan.tensors}]
    if prior and not read and any(t.importance and t.source.n_matrices > 1 for t in plan.tensors):
        text = f"it has no counts per expert (a .dat has none), so 'prior: {prior}' changes nothing; give a GGUF one"
        yield Problem(where, text, "warning", "imatrix-prior")
    unseen = [f"{c.entry}: {numbers(c.unseen)}" for c in read if c.unseen]
    if unseen:
        becomes = (
            f"they take the average of the tensor's other experts (prior: {prior})" if prior
            else "they are encoded as if without; measure more text, or give the recipe 'imatrix: {prior: 64}'"
        )  # fmt: skip
        text = f"its text reached none of these experts, {becomes}: {_first_of(unseen)}"
        yield Problem(where, text, "note", "imatrix-unseen")
    thin = [f"{c.entry}: {numbers(c.thin)}" for c in read if c.thin]
    if thin:
        text = f"these experts saw less than {100 * THIN_SHARE:.0f} % of what their tensor's saw on average"
        helped = (
            f" and are blended with them (prior: {prior})" if prior else "; 'imatrix: {prior: 64}' would blend them"
        )
        yield Problem(where, f"{text}{helped}: {_first_of(thin)}", "note", "imatrix-thin")


def _first_of(tensors: list[str]) -> str:
    more = f"; and {len(tensors) - _MOST_TENSORS:,} more tensors" if len(tensors) > _MOST_TENSORS else ""
    return "; ".join(tensors[:_MOST_TENSORS]) + more


def _unweighted(plan: Plan, missing: dict[tuple[Severity, str, QuantType], list[Draft]]) -> Iterator[Problem]:
    """Without an importance matrix: an error for those that need one, and one note for all others."""
    optional = [d for (severity, _, _), members in missing.items() if severity == "warning" for d in members]
    rest = unsilenced(plan.recipe, optional, "imatrix-none")
    for (severity, because, quant_type), members in missing.items():
        if severity == "error":
            text = f"{quant_type.name} needs an importance matrix, give one with --imatrix: {names_of(members)}"
            text += "" if quant_type.importance == "required" else f"; {because}"
            yield Problem(plan.header.path.name, text, severity, "imatrix-missing")
    if rest:
        text = f"no importance matrix is given; one would lessen the loss of {names_of(rest)}"
        yield Problem("", text, "note", "imatrix-none")


def _uncovered(missing: dict[tuple[Severity, str, QuantType], list[Draft]]) -> Iterator[Problem]:
    for (severity, because, quant_type), members in missing.items():
        text = f"the importance matrix has nothing for {names_of(members)}, to become {quant_type.name}"
        yield Problem(members[0].tensor.name, f"{text}; {because}" if because else text, severity, "imatrix-missing")
