"""The lock file: what a plan came to, so that an apply can insist on it.

It holds the type of every tensor and the hashes of what they follow from, and no path and no time: equal inputs give
an equal file, which belongs beside the recipe under version control.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qxmix.container.identity import header_sha256
from qxmix.errors import PlanError, Problem, RunError
from qxmix.planning.model import Plan

VERSION = 1
_MOST_TENSORS_NAMED = 5


def lock_of(plan: Plan) -> dict[str, Any]:
    """The content of the lock file, ready for ``json.dumps``."""
    return {
        "qxmix_lock": VERSION,
        "recipe_sha256": plan.recipe.sha256,
        "header_sha256": header_sha256(plan.header),
        "imatrix_sha256": None if plan.imatrix is None else plan.imatrix.sha256,
        "moments_sha256": None if plan.moments is None else plan.moments.sha256,
        "file_nbytes": [f.nbytes for f in plan.files],
        "tensors": {t.name: t.type for t in plan.tensors},
        **({"scales": scales} if (scales := {t.name: t.scale for t in plan.tensors if t.scale is not None}) else {}),
    }


def write_lock(plan: Plan, path: Path) -> None:
    """Write the lock file.

    Raises:
        RunError: it cannot be written.

    """
    from qxmix.container.whole_file import write_whole  # noqa: PLC0415 - for those who write one

    text = json.dumps(lock_of(plan), indent=1) + "\n"
    with RunError.of_system(path, "cannot be written"):
        write_whole(path, text)


def check_lock(plan: Plan, path: Path, *, types_only: bool = False) -> None:
    """Insist that the plan is what a lock file says.

    Args:
        plan: The plan.
        path: The lock file.
        types_only: Compare recipe, model and types, where importances and moments are not at hand; the sizes of the
            files depend on what they are called.

    Raises:
        PlanError: it is not, or the file is no lock file; all differences at once.

    """
    try:
        with PlanError.of_system(path, "cannot be read"):
            locked = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        locked = None
    if not isinstance(locked, dict) or locked.get("qxmix_lock") != VERSION:
        raise PlanError.at(path, "is no lock file of this version; write one with 'qxmix plan --lock'")
    problems = [
        Problem(str(path), text, id="lock") for text in _differences(lock_of(plan), locked, types_only=types_only)
    ]
    if problems:
        raise PlanError(problems)


def _short(sha256: object) -> str:
    """As much of a hash as tells it from others."""
    return str(sha256)[:12] if sha256 else "none"


def _differences(now: dict[str, Any], locked: dict[str, Any], *, types_only: bool) -> Iterator[str]:
    weights = (("imatrix", "the importance matrix"), ("moments", "the moments' file"))
    for key, what in (("recipe", "the recipe"), ("header", "the model"), *(() if types_only else weights)):
        was, is_now = locked.get(f"{key}_sha256"), now[f"{key}_sha256"]
        if was != is_now:
            yield f"{what} is another one: its hash is {_short(is_now)} and was {_short(was)} when it was locked"
    tensors = locked.get("tensors")
    tensors = tensors if isinstance(tensors, dict) else {}
    names = [n for n in {**now["tensors"], **tensors} if now["tensors"].get(n) != tensors.get(n)]
    for name in names[:_MOST_TENSORS_NAMED]:
        yield f"{name} would be {now['tensors'].get(name, 'absent')} and was locked as {tensors.get(name, 'absent')}"
    if not types_only:
        yield from _other_scales(now.get("scales", {}), locked.get("scales", {}))
    if len(names) > _MOST_TENSORS_NAMED:
        yield f"{len(names) - _MOST_TENSORS_NAMED:,} more tensors differ"
    if not names and not types_only and now["file_nbytes"] != locked.get("file_nbytes"):
        yield f"the files would have {now['file_nbytes']} bytes and were locked with {locked.get('file_nbytes')}"


def _other_scales(now: dict[str, Any], locked: dict[str, Any]) -> Iterator[str]:
    """The first tensor whose scales have another factor than they had."""
    names = [n for n in {**now, **locked} if now.get(n) != locked.get(n)]
    if names:
        more = f" (and so with {len(names) - 1:,} more)" if len(names) > 1 else ""
        was, is_now = (of.get(names[0], "the engine's own") for of in (locked, now))
        yield f"the factor of the scales of {names[0]} would be {is_now} and was {was} when it was locked{more}"
