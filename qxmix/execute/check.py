"""The last look at a finished output: what stands in the files is what the workers said they wrote.

A worker may have written into another folder of the same name, as on a cluster whose disk is not shared, and another
program may have written into the unfinished file.  So the process that answers for the output reads it once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.errors import RunError
from qxmix.execute.drive import drive_bundles
from qxmix.execute.ledger import Ledger
from qxmix.execute.result import TensorResult
from qxmix.execute.task import Bundle, Task, TaskResult
from qxmix.execute.tasks import reading_target
from qxmix.plan import Plan

if TYPE_CHECKING:
    from qxmix.execute.pool import Pool

_TOGETHER_NBYTES = 2 << 20
"""What one worker reads before it is asked for again: a leaf of a small model takes less time than handing it over."""


def check_data(
    plan: Plan,
    paths: Sequence[Path],
    tensors: Sequence[TensorResult],
    tasks: Iterable[Task],
    pool: Pool,
    run: str,
    on_checked: Callable[[int, str], None],
) -> None:
    """Read all ``tasks``' targets and compare each tensor's digest.

    Args:
        plan: What was applied.
        paths: The finished files, one per shard.
        tensors: What its tensors should be.
        tasks: All tasks of the plan.
        pool: Threads of this process.
        run: Name of the apply.
        on_checked: Called after each leaf with the bytes of the model that are checked, and the tensor's name.

    Raises:
        RunError: a tensor is not what was written; a resume makes it anew.

    """
    found = Ledger(plan)

    def note(task: Task, result: TaskResult) -> None:
        found.add(result, task.model_nbytes)
        on_checked(found.done_nbytes, task.name)

    drive_bundles(_together(reading_target(task, n_rows=0) for task in tasks), pool, (run,), note)
    for planned, written, read in zip(plan.tensors, tensors, found.results(), strict=True):
        if read.sha256 != written.sha256:
            text = (
                f"holds other data for {planned.name} than were written: another program wrote to it, the disk is"
                " failing, or the workers do not share this folder. Go on with --resume, which makes such tensors anew"
            )
            raise RunError.at(paths[planned.shard], text)


def _together(tasks: Iterable[Task]) -> Iterator[Bundle]:
    """Neighbours in one file, a few megabytes at a time."""
    held: list[Task] = []
    nbytes = 0
    for task in tasks:
        if held and (nbytes + task.source_nbytes > _TOGETHER_NBYTES or task.source != held[0].source):
            yield tuple(held)
            held, nbytes = [], 0
        held.append(task)
        nbytes += task.source_nbytes
    if held:
        yield tuple(held)
