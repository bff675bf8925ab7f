"""Doing a task: read a leaf's rows, decode, encode, write them where the plan says.  Everything else is a loop.

A task is plain data and :func:`run_bundle` a plain function of it, so any ``concurrent.futures.Executor`` can run it,
here or on another machine that sees the same files.  Only digests travel back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from qxmix import quants
from qxmix.errors import ModelFileError, RunError
from qxmix.execute import stop
from qxmix.execute.deviation import row_sums, summarize
from qxmix.execute.making import distinct
from qxmix.execute.output import explain
from qxmix.execute.scales import first_flaw
from qxmix.execute.task import Bundle, Task, TaskResult
from qxmix.quants.codec import Packed, Rows

_COPY_STEP_NBYTES = 128 << 10
"""Bytes that a copy moves at once, unless a row group is longer.  Two workers that write one file wait for each
other's writes, spinning: with 1 MiB a copy of 2 GB took between 1.5 and 2.6 s, with 4 MiB 3.4 s or more, with 128 KiB
1.3 s."""


def run_task(task: Task) -> TaskResult:
    """Do one task; see :func:`run_bundle`."""
    return run_bundle((task,))[0]


def run_bundle(bundle: Bundle) -> tuple[TaskResult, ...]:
    """Do all tasks of a leaf: it is read and decoded once, and each distinct encoding of it is made once.

    Tasks that only hash may be of several leaves of one file.

    Returns:
        One result per task, in their order.

    Raises:
        ModelFileError: a weight is NaN or infinite, the source ends early, or its scales overflow the type's.
        RunError: the file system refuses.
        Stopped: the apply was interrupted.

    """
    task = bundle[0]
    try:
        with ExitStack() as opened:
            source = opened.enter_context(Path(task.source).open("rb", buffering=0))
            if task.action == "hash":
                found: list[TaskResult] = []
                for task in bundle:
                    source.seek(task.source_offset)
                    found += _copy((task,), source, (None,))
                return tuple(found)
            source.seek(task.source_offset)
            targets = [_open_target(t, opened) for t in bundle]
            if task.action == "measure":
                return (_measure(task, source, targets[0]),)
            if any(t.action in {"encode", "derive"} for t in bundle):
                return _encode(bundle, source, targets)
            return _copy(bundle, source, targets)
    except OSError as error:
        text = f"{explain(error)}; it happened at tensor {task.name}, and --resume goes on there"
        raise RunError.at(error.filename or task.target or task.source, text) from error


def _open_target(task: Task, opened: ExitStack) -> BinaryIO | None:
    if task.action in {"hash", "derive"}:
        return None
    # "r+b" never creates: once the output has been renamed, a straggler finds nothing to write to.
    mode: Literal["rb", "r+b"] = "rb" if task.action == "measure" else "r+b"
    target = opened.enter_context(open(task.target, mode, buffering=0))  # noqa: PTH123, SIM115 - the stack closes it
    target.seek(task.target_offset)
    return target


def _copy(bundle: Bundle, source: BinaryIO, targets: Sequence[BinaryIO | None]) -> tuple[TaskResult, ...]:
    task = bundle[0]
    digest = hashlib.sha256()
    quant_type = quants.find(task.source_type) if task.n_rows else None
    if quant_type and task.n_rows % quant_type.row_group:
        quant_type = None  # no row group is whole; the file is odd, and its bytes are carried over all the same
    row_nbytes = task.source_nbytes // task.n_rows if quant_type else 1
    unit = row_nbytes * quant_type.row_group if quant_type else 1
    buffer = memoryview(bytearray(min(max(1, _COPY_STEP_NBYTES // unit) * unit, task.source_nbytes)))
    done, flaw = 0, None
    while done < task.source_nbytes:
        stop.check(task.run)
        piece = buffer[: task.source_nbytes - done]
        _read(task, source, piece)
        digest.update(piece)
        for target in targets:
            _write(target, piece)
        if quant_type and flaw is None:
            rows = np.frombuffer(piece, np.uint8).reshape(-1, row_nbytes)
            flaw = first_flaw(quant_type, rows, task.first_row + done // row_nbytes)
        done += len(piece)
    found = digest.digest()
    return tuple(TaskResult(t.tensor, t.leaf, found, found, flaw=flaw) for t in bundle)


def _encode(bundle: Bundle, source: BinaryIO, targets: Sequence[BinaryIO | None]) -> tuple[TaskResult, ...]:
    task = bundle[0]
    encoded = next(t for t in bundle if t.action != "copy")
    step = min(max(t.step_rows for t in bundle), task.n_rows)
    packed = np.empty((step, task.source_nbytes // task.n_rows), np.uint8)
    weights = np.empty((step, task.n_cols), np.float32)
    makings = distinct(bundle, step)
    read = hashlib.sha256()
    for first in range(0, task.n_rows, step):
        stop.check(task.run)
        n = min(step, task.n_rows - first)
        _load(encoded, first, source, packed[:n], weights[:n], read)
        for making in makings:
            made = making.add(first, packed[:n], weights[:n])
            for index in making.members:
                _write(targets[index], made)
    results = {index: making.result(bundle[index], read.digest()) for making in makings for index in making.members}
    return tuple(results[index] for index in range(len(bundle)))


def _load(task: Task, first: int, source: BinaryIO, packed: Packed, weights: Rows, digest: hashlib._Hash) -> None:
    """The part of a step that is the same for all outputs: read and hash its rows, decode and test them."""
    _read(task, source, packed.data.cast("B"))
    digest.update(packed.data)
    quants.codec_of(task.source_type).decode(packed, weights)
    _refuse_non_finite(task, first, weights)


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
            raise RunError.at(task.source, text)
        done += got


def _write(target: BinaryIO | None, data: memoryview) -> None:
    if target is None:
        return
    done = 0
    try:
        while done < len(data):
            done += target.write(data[done:])
    except OSError as error:
        error.filename = target.name
        raise


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
        raise ModelFileError.at(f"{task.source}: {task.name}", text)
