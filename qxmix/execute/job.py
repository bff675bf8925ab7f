"""What is being made: one output by itself, and all outputs of one pass over the model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from qxmix.execute import journal
from qxmix.execute.aids import Aids
from qxmix.execute.output import Output
from qxmix.execute.result import OnProgress, Phase, Progress
from qxmix.execute.task import Task, TaskResult
from qxmix.execute.tasks import make_tasks
from qxmix.plan import Plan
from qxmix.planning.memory import Chunking

if TYPE_CHECKING:
    from qxmix.execute.flush import Flusher
    from qxmix.execute.journal import Recorded
    from qxmix.execute.ledger import Ledger
    from qxmix.execute.options import Options
    from qxmix.execute.reuse import Older


@dataclass(frozen=True, slots=True)
class Job:
    """One output while its apply has the lock; the ledger and the aids change while it runs."""

    plan: Plan
    target: Output
    journal: int
    """Descriptor of the journal, locked."""
    recorded: Recorded
    """What an interrupted apply had done."""
    aids: Aids
    ledger: Ledger
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    """By which its tasks are known and can be stopped."""

    def tasks(self, chunking: Chunking) -> Iterator[Task]:
        """All tasks of the plan."""
        return make_tasks(self.plan, self.target.partials, chunking, self.name)


class Pass(NamedTuple):
    """The outputs that are made in one reading of their model, and what they share."""

    by_name: Mapping[str, Job]
    options: Options
    older: Older
    """What can be taken over."""
    flusher: Flusher
    on_progress: OnProgress

    @property
    def jobs(self) -> tuple[Job, ...]:
        """One for each output."""
        return tuple(self.by_name.values())

    def write_down(self, task: Task, result: TaskResult) -> None:
        """Record a leaf that stands in its output, so that a resume finds it."""
        job = self.by_name[task.run]
        journal.record(job.journal, result)
        job.ledger.add(result, task.model_nbytes)
        self.flusher.wrote(task.target_nbytes)

    def say(self, phase: Phase, text: str = "") -> None:
        """Report progress, of all outputs together."""
        ledgers = [job.ledger for job in self.by_name.values()]
        done, total = sum(x.done_nbytes for x in ledgers), sum(x.total_nbytes for x in ledgers)
        effort = sum(x.done_effort for x in ledgers) / (sum(x.total_effort for x in ledgers) or 1.0)
        self.on_progress(Progress(phase, done, total, text, effort))
