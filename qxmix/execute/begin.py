"""Starting an apply, or going on with one that was interrupted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from qxmix import provenance
from qxmix.errors import Problem, RunError
from qxmix.execute import journal, kernels
from qxmix.execute import output as files
from qxmix.execute.journal import Recorded

if TYPE_CHECKING:
    from qxmix.execute.output import Output
    from qxmix.plan import Plan


def begin_or_resume(plan: Plan, target: Output, descriptor: int, *, resume: bool, overwrite: bool) -> Recorded:
    """Reserve the files, or find what is done already.

    Args:
        plan: What is applied.
        target: Where.
        descriptor: The journal, locked.
        resume: Go on with what the journal names, if it names anything.
        overwrite: Drop it.

    Raises:
        RunError: there is no room, the journal is of another job, or work would be lost without a word.

    """
    identity = _identity(plan)
    recorded = journal.read(descriptor)
    changed = journal.differences(recorded.identity or {}, identity)
    if recorded.identity is not None and resume:
        if changed:
            text = "cannot go on with the interrupted apply: " + "; ".join(changed)
            raise RunError(Problem(str(target.finals[0]), text + ". Give --overwrite instead to start over"))
        journal.go_on(descriptor, recorded)
        return _without_lost_files(plan, target, recorded)
    if recorded.leaves and not changed and not overwrite:
        text = "an interrupted apply of this plan is here; go on with --resume, or start over with --overwrite"
        raise RunError(Problem(str(target.finals[0]), text))
    try:
        journal.begin(descriptor, identity)
        for path, planned in zip(target.partials, plan.files, strict=True):
            files.reserve(path, planned.nbytes)
    except BaseException:
        files.discard(target)
        raise
    return Recorded(identity)


def _without_lost_files(plan: Plan, target: Output, recorded: Recorded) -> Recorded:
    """Make unfinished files anew that are gone or of another size, and forget what the journal says of them."""
    lost = set()
    for i, (path, planned) in enumerate(zip(target.partials, plan.files, strict=True)):
        if recorded.checked and not path.exists() and target.finals[i].exists():
            # Interrupted between the renames of shards: take this one back, so that all are compared and renamed.
            target.finals[i].replace(path)
        if not path.exists() or path.stat().st_size != planned.nbytes:
            files.reserve(path, planned.nbytes)
            lost.add(i)
    kept = {key: leaf for key, leaf in recorded.leaves.items() if plan.tensors[key[0]].shard not in lost}
    return replace(recorded, leaves=kept)


def _identity(plan: Plan) -> dict[str, str]:
    decisions = [(t.name, t.source_type, t.type, t.action, t.importance, t.search, t.offset) for t in plan.tensors]
    headers = sha256(b"".join(file.header for file in plan.files))
    stats = [path.stat() for path in plan.header.paths]
    return {
        "qxmix": provenance.version(),
        "recipe": plan.recipe.sha256,
        "plan": sha256(repr(decisions).encode() + headers.digest()).hexdigest(),
        "imatrix": plan.imatrix.sha256 if plan.imatrix else "none",
        "kernels": kernels.versions(plan),
        **{f"model {i + 1}": f"{s.st_size} bytes of {_date(s.st_mtime_ns)}" for i, s in enumerate(stats)},
    }


def _date(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{ns % 10**9:09d}"
