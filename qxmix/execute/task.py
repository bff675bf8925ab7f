"""One unit of work: read a leaf's rows, decode, encode, write them where the plan says.  Everything else is a loop.

A task is plain data and ``run_task`` a plain function of it, so any ``concurrent.futures.Executor`` can run it, here or
on another machine that sees the same files.  Only digests travel back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from qxmix import quants
from qxmix.errors import ModelFileError, Problem, RunError
from qxmix.execute import stop
from qxmix.execute.deviation import Deviation, row_sums, summarize
from qxmix.execute.factors import MomentsOf, factors_of
from qxmix.execute.output import explain
from qxmix.execute.scales import Flaw, check_scales, first_flaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.codec import Codec, Packed, Rows

COPY_STEP_NBYTES = 128 << 10
"""Bytes that a copy moves at once, unless a row group is longer.  Two workers that write one file wait for each
other's writes, spinning: with 1 MiB a copy of 2 GB took between 1.5 and 2.6 s, with 4 MiB 3.4 s or more, with 128 KiB
1.3 s."""


@dataclass(frozen=True, slots=True)
class Task:
    """A leaf of one tensor, and all that a worker needs to make it.  Offsets and sizes are in bytes of the file."""

    tensor: int
    """Index into the plan's tensors."""
    leaf: int
    """Index among the tensor's leaves."""
    name: str
    """The tensor's name."""
    action: Literal["copy", "encode", "hash", "derive", "measure"]
    """``hash`` reads like ``copy`` and ``derive`` computes like ``encode``, but neither writes; ``measure`` compares
    what is read with what stands in the target."""
    source: str
    """Path of the shard to read."""
    source_offset: int
    source_nbytes: int
    model_nbytes: int
    """Bytes of the model it accounts for, whatever it reads."""
    target: str = ""
    """Path of the unfinished output file."""
    target_offset: int = 0
    target_nbytes: int = 0
    source_type: str = ""
    """Type of what is read."""
    type: str = ""
    """Type of what is written."""
    n_cols: int = 0
    first_row: int = 0
    """Counted over all stacked matrices; for messages."""
    n_rows: int = 0
    importance: bytes = b""
    """``n_cols`` float32 of this matrix, or empty."""
    search: int = 0
    """Index into ``SEARCHES``."""
    moments: MomentsOf | None = None
    """Where to read second moments for error feedback; None: encode without."""
    step_rows: int = 0
    """Rows that are in memory at once."""
    measure: bool = False
    """Whether to compare what was written with what was read."""
    run: str = ""
    """The apply it belongs to, by which it can be stopped."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What comes back from a worker."""

    tensor: int
    leaf: int
    digest: bytes
    """SHA-256 of the bytes written."""
    source_digest: bytes
    """SHA-256 of the bytes read."""
    deviation: Deviation | None = None
    flaw: Flaw | None = None
    """The first number in the bytes read that is not finite, if they were carried over as they are."""


def run_task(task: Task) -> TaskResult:
    """Do one task.

    Raises:
        ModelFileError: a weight is NaN or infinite, the source ends early, or its scales overflow the type's.
        RunError: the file system refuses.
        Stopped: the apply was interrupted.

    """
    try:
        with Path(task.source).open("rb", buffering=0) as source:
            source.seek(task.source_offset)
            if task.action in {"hash", "derive"}:
                return _WORK[task.action](task, source, None)
            # "r+b" never creates: once the output has been renamed, a straggler finds nothing to write to.
            with Path(task.target).open("rb" if task.action == "measure" else "r+b", buffering=0) as target:
                target.seek(task.target_offset)
                return _WORK[task.action](task, source, target)
    except OSError as error:
        text = f"{explain(error)}; it happened at tensor {task.name}, and --resume goes on there"
        raise RunError(Problem(str(error.filename or task.target or task.source), text)) from error


def _copy(task: Task, source: BinaryIO, target: BinaryIO | None) -> TaskResult:
    digest = hashlib.sha256()
    quant_type = quants.find(task.source_type) if task.n_rows else None
    if quant_type and task.n_rows % quant_type.row_group:
        quant_type = None  # no row group is whole; the file is odd, and its bytes are carried over all the same
    row_nbytes = task.source_nbytes // task.n_rows if quant_type else 1
    unit = row_nbytes * quant_type.row_group if quant_type else 1
    buffer = memoryview(bytearray(min(max(1, COPY_STEP_NBYTES // unit) * unit, task.source_nbytes)))
    done, flaw = 0, None
    while done < task.source_nbytes:
        stop.check(task.run)
        piece = buffer[: task.source_nbytes - done]
        _read(task, source, piece)
        digest.update(piece)
        if target is not None:
            _write(target, piece)
        if quant_type and flaw is None:
            rows = np.frombuffer(piece, np.uint8).reshape(-1, row_nbytes)
            flaw = first_flaw(quant_type, rows, task.first_row + done // row_nbytes)
        done += len(piece)
    return TaskResult(task.tensor, task.leaf, digest.digest(), digest.digest(), flaw=flaw)


def _encode(task: Task, source: BinaryIO, target: BinaryIO | None) -> TaskResult:
    decode, codec = quants.codec_of(task.source_type).decode, quants.codec_of(task.type)
    step = min(task.step_rows, task.n_rows)
    packed = np.empty((step, task.source_nbytes // task.n_rows), np.uint8)
    weights = np.empty((step, task.n_cols), np.float32)
    encoded = np.empty((step, task.target_nbytes // task.n_rows), np.uint8)
    # A copy, since the bytes' own buffer is read-only, which would be another type to Numba and compile once more.
    columns = np.frombuffer(task.importance, np.float32).copy()
    encode = _encoder(task, codec, columns)
    read, written = hashlib.sha256(), hashlib.sha256()
    sums: list[NDArray[np.float64]] = []
    for first in range(0, task.n_rows, step):
        stop.check(task.run)
        n = min(step, task.n_rows - first)
        _read(task, source, packed[:n].data.cast("B"))
        read.update(packed[:n].data)
        decode(packed[:n], weights[:n])
        _refuse_non_finite(task, first, weights[:n])
        encode(weights[:n], encoded[:n])
        check_scales(task.name, task.type, task.first_row + first, encoded[:n])
        if target is not None:
            _write(target, encoded[:n].data.cast("B"))
        written.update(encoded[:n].data)
        if task.measure:
            restored = np.empty((n, task.n_cols), np.float32)
            codec.decode(encoded[:n], restored)
            sums.append(row_sums(weights[:n], restored, columns))
    deviation = summarize(np.concatenate(sums), task.first_row) if sums else None
    return TaskResult(task.tensor, task.leaf, written.digest(), read.digest(), deviation)


def _encoder(task: Task, codec: Codec, columns: NDArray[np.float32]) -> Callable[[Rows, Packed], None]:
    """The encoder of a task's rows, with or without error feedback."""
    if task.moments is not None:
        feedback = codec.feedback
        assert feedback is not None, "the plan asks for feedback only where the type has it"
        importance, factors = factors_of(task.moments, task.importance)
        return lambda rows, packed: feedback(rows, importance, factors, packed, task.search)
    encode = codec.encode
    return lambda rows, packed: encode(rows, columns, packed, task.search)


def _measure(task: Task, source: BinaryIO, target: BinaryIO | None) -> TaskResult:
    """Compare weights that an older output gave with the model's; the digests of both are known already."""
    assert target is not None
    decode, restore = quants.codec_of(task.source_type).decode, quants.codec_of(task.type).decode
    step = min(task.step_rows, task.n_rows)
    packed = np.empty((step, task.source_nbytes // task.n_rows), np.uint8)
    encoded = np.empty((step, task.target_nbytes // task.n_rows), np.uint8)
    weights, restored = np.empty((step, task.n_cols), np.float32), np.empty((step, task.n_cols), np.float32)
    columns = np.frombuffer(task.importance, np.float32)
    sums: list[NDArray[np.float64]] = []
    for first in range(0, task.n_rows, step):
        stop.check(task.run)
        n = min(step, task.n_rows - first)
        _read(task, source, packed[:n].data.cast("B"))
        _read(task, target, encoded[:n].data.cast("B"))
        decode(packed[:n], weights[:n])
        restore(encoded[:n], restored[:n])
        sums.append(row_sums(weights[:n], restored[:n], columns))
    return TaskResult(task.tensor, task.leaf, b"", b"", summarize(np.concatenate(sums), task.first_row))


def _read(task: Task, source: BinaryIO, buffer: memoryview) -> None:
    # Read, not mapped: a source that shrinks under us is an error here and would be a SIGBUS there, and pages that
    # were never mapped need no release.
    done = 0
    while done < len(buffer):
        got = source.readinto(buffer[done:])  # type: ignore[attr-defined]  # an unbuffered file
        if not got:
            text = f"the file ends inside tensor {task.name}, although it was long enough when the header was read"
            raise RunError(Problem(task.source, text))
        done += got


def _write(target: BinaryIO, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += target.write(data[done:])


def _refuse_non_finite(task: Task, first: int, weights: NDArray[np.float32]) -> None:
    # One NaN or infinity makes the sum NaN or infinite, and the sum costs a tenth of a test of every weight; a sum
    # that overflows on finite weights is cleared by the exact test.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(weights.sum()):
            return
    bad = np.argwhere(~np.isfinite(weights))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        text = (
            f"row {task.first_row + first + row}, column {column} is {weights[row, column]}"
            f" ({len(bad)} such weights in {len(weights)} rows); a {task.type} tensor cannot hold it."
            " Convert the model again, or `keep` this tensor as it is"
        )
        raise ModelFileError(Problem(f"{task.source}: {task.name}", text))


_WORK = {"copy": _copy, "hash": _copy, "encode": _encode, "derive": _encode, "measure": _measure}
