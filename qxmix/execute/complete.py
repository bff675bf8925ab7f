"""Whether an output is there already, as the plan has it: a resume leaves such a one as it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import qxmix
from qxmix import provenance
from qxmix.container.header import read_header
from qxmix.errors import QxmixError, RunError
from qxmix.execute.output import Output
from qxmix.plan import Plan

_LATE = (provenance.SOURCE_SHA256, provenance.DATA_SHA256, provenance.TENSOR_KEYS, provenance.TENSOR_SHA256)


class Complete(NamedTuple):
    """An output that an earlier apply of the same plan has finished."""

    paths: tuple[Path, ...]
    nbytes: int
    """Bytes of all of them."""
    source_sha256: str
    """Root digest of the model's tensors, in hex, as the output states it."""
    data_sha256: str
    """Root digest of its own."""


def find_complete(plan: Plan, target: Output) -> Complete | None:
    """The output, if an apply of this plan has finished it.

    The files have their names, sizes and, but for digests, the planned headers to the byte; they are not older than the
    model; and no journal is left, which goes last.  The data, read once more before they got their names, are not read.
    """
    try:
        if not _is_finished(target) or not all(map(Path.is_file, target.finals)) or _is_older(plan, target):
            return None
        header = read_header(target.finals[0])
        found = {key: header.get(key) for key in _LATE}
        values = {key: value for key, value in found.items() if isinstance(value, str)}
        wanted = [provenance.fill(file.header, values) if i == 0 else file.header for i, file in enumerate(plan.files)]
        if not all(
            path.stat().st_size == file.nbytes and _starts_with(path, start)
            for path, file, start in zip(target.finals, plan.files, wanted, strict=True)
        ):
            return None
        source, data = (values.get(key, "") for key in (provenance.SOURCE_SHA256, provenance.DATA_SHA256))
        return Complete(target.finals, sum(f.nbytes for f in plan.files), source, data)
    except (OSError, QxmixError):
        return None


def _is_finished(target: Output) -> bool:
    """Whether an output of some apply, or another file, has one of the names and no apply is at it."""
    return not target.journal.exists() and any(map(Path.exists, target.finals))


def refuse_other(plan: Plan, target: Output) -> None:
    """Refuse to go on with an output that is finished and, as ``find_complete`` found, not the one of the plan.

    Raises:
        RunError: there is one.

    """
    if _is_finished(target):
        text = f"is finished, and not what this plan makes: it is of {_what_differs(plan, target)}"
        path = next(filter(Path.exists, target.finals))
        raise RunError.at(path, f"{text}; give --overwrite to replace it, or another -o")


def _what_differs(plan: Plan, target: Output) -> str:
    try:
        header = read_header(next(filter(Path.exists, target.finals)))
        if header.get(provenance.VERSION) is None:
            return "another program, or a file of another kind"
        if _is_older(plan, target):
            return "an older state of the model"
        different = [text for key, text, own in _made_of(plan) if header.get(key) != own]
    except (OSError, QxmixError):
        return "another program, or a file of another kind"
    return " and ".join(different) or "another model, or in other pieces"


def _made_of(plan: Plan) -> tuple[tuple[str, str, str | None], ...]:
    """Key of what an output states, what it is if that is another, and what the plan's would state."""
    return (
        (provenance.RECIPE_SHA256, "another recipe", plan.recipe.sha256),
        (provenance.IMATRIX_SHA256, "another importance matrix", plan.imatrix.sha256 if plan.imatrix else None),
        (provenance.MOMENTS_SHA256, "other moments", plan.moments.sha256 if plan.moments else None),
        (provenance.VERSION, "another version of qxmix", qxmix.__version__),
    )


def _is_older(plan: Plan, target: Output) -> bool:
    newest_input = max(path.stat().st_mtime_ns for path in plan.header.paths)
    return any(path.stat().st_mtime_ns < newest_input for path in target.finals if path.exists())


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
