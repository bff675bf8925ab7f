"""Starting an apply, or going on with one that was interrupted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import qxmix
from qxmix import system
from qxmix.errors import RunError
from qxmix.execute import journal, kernels
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from qxmix.execute.journal import Recorded
from qxmix.execute.output import Output
from qxmix.plan import Plan


def look(plan: Plan, target: Output, descriptor: int, *, resume: bool, overwrite: bool) -> Recorded:
    """Read what an interrupted apply has left, and refuse what would lose it without a word; nothing is changed.

    Args:
        plan: What is applied.
        target: Where.
        descriptor: The journal, locked.
        resume: Go on with what the journal names, if it names anything.
        overwrite: Drop it.

    Returns:
        What to go on with; its ``identity`` is None where all is to begin anew.

    Raises:
        RunError: the journal is of another job, or work would be lost.

    """
    recorded = journal.read(descriptor)
    if recorded.identity is None:
        return recorded
    changed = journal.differences(recorded.identity, _identity(plan))
    if resume:
        if changed:
            text = "cannot go on with the interrupted apply: " + "; ".join(changed)
            raise RunError.at(target.finals[0], text + ". Give --overwrite instead to start over")
        return recorded
    if recorded.leaves and not overwrite:
        text = "an interrupted apply of this plan is here; go on with --resume, or start over with --overwrite"
        if changed:
            text = f"an interrupted apply of another job is here ({'; '.join(changed)}), and its work would be lost;"
            text += " give another -o, or --overwrite to start over"
        raise RunError.at(target.finals[0], text)
    return Recorded(None)


def begin(plan: Plan, target: Output, descriptor: int, aids: Aids, recorded: Recorded) -> Recorded:
    """Reserve the files, or what is missing of those that :func:`look` found.

    Returns:
        What is done already.

    Raises:
        RunError: there is no room.

    """
    if recorded.identity is not None:
        journal.go_on(descriptor, recorded)
        return _without_lost_files(plan, target, recorded, aids)
    identity = _identity(plan)
    try:
        journal.begin(descriptor, identity)
        for path, planned in zip(target.partials, plan.files, strict=True):
            files.reserve(path, planned.nbytes, aids)
    except BaseException:
        files.discard(target, descriptor)
        raise
    return Recorded(identity)


def _without_lost_files(plan: Plan, target: Output, recorded: Recorded, aids: Aids) -> Recorded:
    """Make unfinished files anew that are gone or of another size, and forget what the journal says of them."""
    lost = set()
    for i, (path, planned) in enumerate(zip(target.partials, plan.files, strict=True)):
        if recorded.checked and not path.exists() and target.finals[i].exists():
            # Interrupted between the renames of shards: take this one back, so that all are compared and renamed.
            with files.file_errors(path, call="rename"):
                system.replace(target.finals[i], path)
        if not path.exists() or path.stat().st_size != planned.nbytes:
            files.reserve(path, planned.nbytes, aids)
            lost.add(i)
    whole = {i for i, tensor in enumerate(plan.tensors) if tensor.shard not in lost}
    kept = {key: leaf for key, leaf in recorded.leaves.items() if key[0] in whole}
    return replace(recorded, leaves=kept)


def refuse_changed_model(plan: Plan, recorded: Recorded) -> None:
    """Refuse to finish with a model that was exchanged or written to after the work began.

    Raises:
        RunError: its size or date is another one, so that the output could be made of two models.

    """
    changed = journal.differences(recorded.identity or {}, {**(recorded.identity or {}), **_model(plan)})
    if changed:
        text = f"changed while it was read ({'; '.join(changed)}), so the output may be made of two models;"
        raise RunError.at(plan.header.path, text + " start over with --overwrite once the model is at rest")


def _identity(plan: Plan) -> dict[str, str]:
    decisions = [
        (t.name, t.source_type, t.type, t.action, t.importance, t.search, t.counts_alike, t.feedback, t.symmetric,
         t.scale, t.offset)
        for t in plan.tensors
    ]  # fmt: skip
    headers = sha256(b"".join(file.header for file in plan.files))
    return {
        "qxmix": qxmix.__version__,
        "recipe": plan.recipe.sha256,
        "plan": sha256(repr(decisions).encode() + headers.digest()).hexdigest(),
        "moments": plan.moments.sha256 if plan.moments else "none",
        "imatrix": plan.imatrix.sha256 if plan.imatrix else "none",
        "kernels": kernels.versions(plan),
        **_model(plan),
    }


def _model(plan: Plan) -> dict[str, str]:
    return {f"model {i + 1}": _size_and_date(path) for i, path in enumerate(plan.header.paths)}


def _size_and_date(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return f"{status.st_size} bytes of {_date(status.st_mtime_ns)}"


def _date(ns: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}"
    except (ValueError, OverflowError, OSError):  # a year that the calendar of Python does not have
        return f"second {seconds}.{rest:09d}"
