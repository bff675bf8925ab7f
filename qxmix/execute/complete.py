"""Whether an output is there already, as the plan has it: a resume of several leaves such a one as it is."""

from __future__ import annotations

from pathlib import Path

from qxmix import provenance
from qxmix.container.header import read_header
from qxmix.errors import QxmixError
from qxmix.execute.output import Output
from qxmix.plan import Plan

_LATE = (provenance.SOURCE_SHA256, provenance.DATA_SHA256, provenance.TENSOR_KEYS, provenance.TENSOR_SHA256)


def is_complete(plan: Plan, target: Output) -> bool:
    """Whether an apply of this plan has finished this output.

    The files have their names, sizes and, but for digests, the planned headers to the byte; they are not older than the
    model; and no journal is left, which goes last.  The data, read once more before they got their names, are not read.
    """
    try:
        if target.journal.exists() or not all(map(Path.is_file, target.finals)):
            return False
        newest_input = max(path.stat().st_mtime_ns for path in plan.header.paths)
        if any(path.stat().st_mtime_ns < newest_input for path in target.finals):
            return False
        header = read_header(target.finals[0])
        found = {key: header.get(key) for key in _LATE}
        values = {key: value for key, value in found.items() if isinstance(value, str)}
        wanted = [provenance.fill(file.header, values) if i == 0 else file.header for i, file in enumerate(plan.files)]
        return all(
            path.stat().st_size == file.nbytes and _starts_with(path, start)
            for path, file, start in zip(target.finals, plan.files, wanted, strict=True)
        )
    except (OSError, QxmixError):
        return False


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
