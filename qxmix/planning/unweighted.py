"""What there is to say about the importance matrix of a plan: none, not for this tensor, or another model's."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix.container.source import show
from qxmix.errors import Problem, Severity
from qxmix.planning.draft import names_of
from qxmix.planning.importance import missing_is
from qxmix.quants import get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qxmix.container.imatrix import Imatrix
    from qxmix.planning.draft import Draft
    from qxmix.planning.model import Plan


def importance_problems(plan: Plan, drafts: list[Draft]) -> Iterator[Problem]:
    """Missing and unfit entries, one problem per cause, and entries that no tensor has use for.

    Args:
        plan: The plan.
        drafts: What was decided about each of its tensors.

    """
    missing: dict[tuple[Severity, str, str], list[Draft]] = defaultdict(list)
    strange: dict[str, list[Problem]] = defaultdict(list)
    for draft in drafts:
        if not draft.encodes:
            continue
        if draft.entry_problem is not None:
            strange[draft.entry_problem.id].append(draft.entry_problem)
        if draft.importance is None:
            severity, because = missing_is(draft.tensor, draft.type, plan.recipe)
            # That an entry does not fit is told, and is no smaller loss than that there is none.
            if severity == "error" or (severity is not None and draft.entry_problem is None):
                missing[severity, because, draft.type].append(draft)
    for problems in strange.values():
        more = f"; so with {len(problems) - 1:,} more tensors" if len(problems) > 1 else ""
        yield replace(problems[0], text=problems[0].text + more)
    yield from _unweighted(plan, missing) if plan.imatrix is None else _uncovered(missing)
    if plan.imatrix is not None:
        yield from _unused(plan, plan.imatrix)


def _unused(plan: Plan, imatrix: Imatrix) -> Iterator[Problem]:
    """Entries for tensors that the model does not have: the matrix is probably another model's."""
    names = {t.name for t in plan.tensors}
    # A tied model has no output of its own, and a matrix measured with it has an entry.
    alien = [name for name in imatrix.entries if name not in names and name != "output.weight"]
    if alien:
        text = (
            f"the importance matrix has {len(alien):,} of its {len(imatrix.entries):,} entries for tensors that this "
            f"model does not have, like {show(alien[0])}; was it made from this model?"
        )
        yield Problem(imatrix.path.name, text, "warning", "imatrix-unused")


def _unweighted(plan: Plan, missing: dict[tuple[Severity, str, str], list[Draft]]) -> Iterator[Problem]:
    """Without an importance matrix: an error for those that need one, and one note for all others."""
    rest = [d for (severity, _, _), members in missing.items() if severity == "warning" for d in members]
    for (severity, because, type_name), members in missing.items():
        if severity == "error":
            text = f"{type_name} needs an importance matrix, give one with --imatrix: {names_of(members)}"
            text += "" if get(type_name).importance == "required" else f"; {because}"
            yield Problem(plan.header.path.name, text, severity, "imatrix-missing")
    if rest:
        text = f"no importance matrix is given; one would lessen the loss of {names_of(rest)}"
        yield Problem("", text, "note", "imatrix-none")


def _uncovered(missing: dict[tuple[Severity, str, str], list[Draft]]) -> Iterator[Problem]:
    for (severity, because, type_name), members in missing.items():
        text = f"the importance matrix has nothing for {names_of(members)}, to become {type_name}"
        yield Problem(members[0].tensor.name, f"{text}; {because}" if because else text, severity, "imatrix-missing")
