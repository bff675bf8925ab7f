"""The last look at a finished output: what stands in the files is what the workers said they wrote.

A worker may have written into another folder of the same name, as on a cluster whose disk is not shared, and another
program may have written into the unfinished file.  So the process that answers for the output reads it once more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from qxmix.errors import Problem, RunError
from qxmix.execute import digests
from qxmix.execute.drive import drive
from qxmix.execute.tasks import reading_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qxmix.execute.result import TensorResult
    from qxmix.execute.task import Task, TaskResult
    from qxmix.execute.workers import Pool
    from qxmix.plan import Plan


def check_data(
    plan: Plan,
    tensors: Sequence[TensorResult],
    tasks: Iterable[Task],
    pool: Pool,
    run: str,
    on_checked: Callable[[Task], None],
) -> None:
    """Read all ``tasks``' targets and compare each tensor's digest.

    Args:
        plan: What was applied.
        tensors: What its tensors should be.
        tasks: All tasks of the plan.
        pool: Threads of this process.
        run: Name of the apply.
        on_checked: Called after each leaf.

    Raises:
        RunError: a tensor is not what was written; a resume makes it anew.

    """
    found: dict[int, dict[int, bytes]] = defaultdict(dict)

    def compare(task: Task, result: TaskResult) -> None:
        index = task.tensor
        found[index][task.leaf] = result.digest
        source = plan.tensors[index].source
        if len(found[index]) == len(digests.leaves(source, source.nbytes)):
            parts = found.pop(index)
            if digests.combine(digest for _, digest in sorted(parts.items())).hex() != tensors[index].sha256:
                raise _changed(task)
        on_checked(task)

    drive(map(reading_target, tasks), pool, run, compare)


def _changed(task: Task) -> RunError:
    text = (
        f"holds other data for {task.name} than were written: another program wrote to it, the disk is failing, or the"
        " workers do not share this folder. Go on with --resume, which makes such tensors anew"
    )
    return RunError(Problem(task.source, text))
