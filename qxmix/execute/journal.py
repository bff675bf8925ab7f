"""The record of what is done, by which an interrupted apply goes on.

One JSON line per leaf, appended when its bytes are written.  The journal vouches for nothing by itself: a resumed apply
reads again every leaf that it names and compares digests, so data that a power cut took are simply made again, and a
line that was torn ends the journal there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from qxmix.errors import RunError
from qxmix.execute.deviation import Deviation
from qxmix.execute.output import explain
from qxmix.execute.task import TaskResult

VERSION = 1
_DIGEST = re.compile("[0-9a-f]{64}")
_SHOWN_DIGITS = 12

Identity = Mapping[str, str]
"""What must be the same for old work to be of use: a name that a user understands, and the value."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a journal holds."""

    identity: Identity | None
    """None: nothing was begun."""
    leaves: Mapping[tuple[int, int], TaskResult] = field(default_factory=dict)
    """By tensor and leaf."""
    checked: bool = False
    """All files were complete, checked and synced; renames had begun, or could."""
    nbytes: int = 0
    """Length of the part that can be read."""


def read(descriptor: int) -> Recorded:
    """Read a journal up to the first line that is not whole."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        identity, nbytes = _identity(file.readline())
        leaves: dict[tuple[int, int], TaskResult] = {}
        checked = False
        while identity is not None:
            line = file.readline()
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
                if isinstance(entry, list):
                    result = _decode(entry)
                    leaves[result.tensor, result.leaf] = result
                elif isinstance(entry, dict) and entry.get("checked") is True:
                    checked = True
                else:
                    break
            except (ValueError, TypeError):
                break
            nbytes += len(line)
    return Recorded(identity, leaves, checked, nbytes)


def begin(descriptor: int, identity: Identity) -> None:
    """Empty the journal and note what the work is."""
    _cut(descriptor, 0)
    _append(descriptor, {"qxmix_journal": VERSION, "identity": dict(identity)})


def go_on(descriptor: int, recorded: Recorded) -> None:
    """Cut off what could not be read, so that new lines follow whole ones."""
    _cut(descriptor, recorded.nbytes)


def record(descriptor: int, result: TaskResult) -> None:
    """Note one leaf."""
    entry: list[object] = [result.tensor, result.leaf, result.digest.hex(), result.source_digest.hex()]
    if result.deviation is not None:
        d = result.deviation
        entry += [d.sums, d.worst]
    _append(descriptor, entry)


def record_checked(descriptor: int) -> None:
    """Note that only renames are left."""
    _append(descriptor, {"checked": True})


def differences(old: Identity, new: Identity) -> list[str]:
    """What changed since the journal was begun, each with both values; of digests as much as tells them apart."""
    return [
        f"{key}: was {_shown(old.get(key))}, is {_shown(new.get(key))}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def _shown(value: str | None) -> str:
    if value is None:
        return "not there"
    return value[:_SHOWN_DIGITS] if _DIGEST.fullmatch(value) else value


def _cut(descriptor: int, nbytes: int) -> None:
    try:
        if os.fstat(descriptor).st_size != nbytes:
            os.ftruncate(descriptor, nbytes)
    except OSError as error:
        text = f"the journal cannot be cut ({explain(error, call='ftruncate')}); delete it, or give another -o"
        raise RunError(text) from error


def _append(descriptor: int, entry: object) -> None:
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    try:
        written = os.write(descriptor, line)
        if written != len(line):
            # The disk is full; the write that follows says so.
            os.write(descriptor, line[written:])
    except OSError as error:
        raise RunError(f"the journal cannot be written: {explain(error)}; then go on with --resume") from error


def _identity(line: bytes) -> tuple[Identity | None, int]:
    try:
        head = json.loads(line) if line.endswith(b"\n") else {}
        if isinstance(head, dict) and head.get("qxmix_journal") == VERSION:
            return {str(k): str(v) for k, v in head["identity"].items()}, len(line)
    except (ValueError, KeyError, AttributeError):
        pass
    return None, 0


def _decode(entry: list[object]) -> TaskResult:
    tensor, leaf, digest, source, *measured = entry
    if not isinstance(tensor, int) or not isinstance(leaf, int):
        raise TypeError(entry)
    deviation = None
    if measured:
        sums, worst = measured
        assert isinstance(sums, list)
        assert isinstance(worst, list)
        rows = tuple((float(error), int(row)) for error, row in worst)
        deviation = Deviation(tuple(map(float, sums)), rows)
    return TaskResult(tensor, leaf, bytes.fromhex(str(digest)), bytes.fromhex(str(source)), deviation)
