"""Carrying out a plan: reserve, work, check, sync, rename; and going on where an earlier apply was interrupted."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix import provenance
from qxmix.errors import ModelFileError, Problem, RunError
from qxmix.execute import digests, journal, kernels, stop
from qxmix.execute import output as files
from qxmix.execute.drive import drive
from qxmix.execute.flush import Flusher
from qxmix.execute.journal import Recorded
from qxmix.execute.ledger import Ledger
from qxmix.execute.preflight import preflight
from qxmix.execute.result import OnProgress, Phase, Progress, Result, TensorResult
from qxmix.execute.tasks import Chunking, make_tasks, reading_target
from qxmix.execute.workers import Pool, open_pool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from qxmix.execute.output import Output
    from qxmix.execute.task import Task, TaskResult
    from qxmix.plan import Plan


@dataclass(frozen=True, slots=True)
class Options:
    """How to apply; nothing here changes a byte of the output."""

    n_workers: int | None = None
    executor: str = "threads"
    memory_nbytes: int | None = None
    report: bool = False
    resume: bool = False
    overwrite: bool = False
    strict: bool = False


def apply(
    plan: Plan,
    output: str | os.PathLike[str],
    *,
    n_workers: int | None = None,
    executor: str = "threads",
    memory_nbytes: int | None = None,
    report: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    on_progress: OnProgress | None = None,
) -> Result:
    """Write the output that ``plan`` describes, byte for byte.

    Args:
        plan: What to write.
        output: The file; of a model in shards the common part of their names, ``dir/name.gguf``.
        n_workers: Workers; None for one per processor.
        executor: ``threads``, ``processes``, ``serial``, ``dask:ADDRESS`` or ``package:callable``.
        memory_nbytes: Bound on resident memory; None for what the plan states.
        report: Measure how far each tensor's weights move.
        resume: Go on with an interrupted apply of the same plan.
        overwrite: Replace an output that exists, or an unfinished one.
        strict: Warnings of the plan are errors.
        on_progress: Called in this thread after each unit of work.

    Raises:
        PlanError: the plan breaks a policy.
        ModelFileError: a weight is NaN or infinite, or an input changed.
        RunError: the output cannot be written; what was done is kept, and ``resume`` goes on with it.

    """
    started = time.perf_counter()
    options = Options(n_workers, executor, memory_nbytes, report, resume, overwrite, strict)
    target = files.name_output(plan, Path(output))
    replacing = overwrite or (resume and target.journal.exists())
    preflight(plan, target, overwrite=replacing, strict=strict)
    with files.file_errors(target.journal.parent):
        target.journal.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(target.journal) as descriptor:
        recorded = _begin_or_resume(plan, target, options, descriptor)
        run = _Run(plan, target, options, descriptor, on_progress or (lambda _progress: None))
        with _keeping_what_resumes(run, recorded):
            return run.carry_out(recorded, started)


class _Run:
    """One apply while it has the lock."""

    def __init__(self, plan: Plan, target: Output, options: Options, descriptor: int, on_progress: OnProgress) -> None:
        self.plan, self.target, self.options, self.journal = plan, target, options, descriptor
        self.on_progress = on_progress
        self.name = uuid.uuid4().hex
        self.ledger = Ledger(plan)
        self.n_resumed = 0

    def carry_out(self, recorded: Recorded, started: float) -> Result:
        """Everything from the first tensor to the rename."""
        self.say("kernels", ", ".join(kernels.kernel_types(self.plan)))
        kernels.warm(self.plan)
        with Flusher((*self.target.partials, self.target.journal)) as flusher:
            with open_pool(self.options.executor, self.options.n_workers) as pool:
                self.work(pool, flusher, self.take_over(pool, recorded))
            tensors = self.ledger.results()
            roots = Roots.of(tensors)
            self.complete(roots)
            self.say("sync")
            sync_started = time.perf_counter()
            self.publish()
        now = time.perf_counter()
        self.say("done")
        return Result(
            paths=self.target.finals,
            nbytes=self.plan.file_nbytes,
            tensors=tensors,
            source_sha256=roots.source,
            data_sha256=roots.data,
            n_resumed=self.n_resumed,
            n_reused=0,
            seconds=now - started,
            sync_seconds=now - sync_started,
            problems=(),
        )

    def tasks(self, n_workers: int = 1) -> Iterator[Task]:
        """All tasks of the plan."""
        chunking = Chunking(self.options.memory_nbytes, n_workers, self.options.report)
        return make_tasks(self.plan, self.target.partials, chunking, self.name)

    def take_over(self, pool: Pool, recorded: Recorded) -> set[tuple[int, int]]:
        """Read again what the journal names, and note the leaves that are as it says."""
        kept: set[tuple[int, int]] = set()

        def compare(task: Task, found: TaskResult) -> None:
            old = recorded.leaves[task.tensor, task.leaf]
            if found.digest == old.digest:
                kept.add((task.tensor, task.leaf))
                self.ledger.add(old, task.source_nbytes)
            self.say("verify", task.name)

        tasks = (
            task
            for task in self.tasks()
            if (old := recorded.leaves.get((task.tensor, task.leaf))) is not None
            and (old.deviation is not None or not task.measure)
        )
        drive(map(reading_target, tasks), pool, self.name, compare)
        self.n_resumed = len(kept)
        return kept

    def work(self, pool: Pool, flusher: Flusher, kept: set[tuple[int, int]]) -> None:
        """Make every leaf that is not kept."""

        def note(task: Task, result: TaskResult) -> None:
            journal.record(self.journal, result)
            self.ledger.add(result, task.source_nbytes)
            flusher.wrote(task.target_nbytes)
            self.say("work", task.name)

        tasks = (task for task in self.tasks(pool.n_workers) if (task.tensor, task.leaf) not in kept)
        drive(tasks, pool, self.name, note)

    def complete(self, roots: Roots) -> None:
        """Write the headers, and compare the files with the plan."""
        for i, (path, planned) in enumerate(zip(self.target.partials, self.plan.files, strict=True)):
            header = provenance.fill(planned.header, roots.source, roots.data) if i == 0 else planned.header
            files.write_header(path, header)
            files.check(path, planned, header, i)

    def publish(self) -> None:
        """Sync, then give the files their names; whatever happens in between can be finished by a resume."""
        folder = self.target.journal.parent
        for path in self.target.partials:
            files.sync(path)
        journal.record_checked(self.journal)
        files.sync(folder)
        for partial, final in zip(self.target.partials, self.target.finals, strict=True):
            with files.file_errors(final):
                partial.replace(final)
        files.sync(folder)
        self.target.journal.unlink()

    def say(self, phase: Phase, text: str = "") -> None:
        """Report progress."""
        self.on_progress(Progress(phase, self.ledger.done_nbytes, self.ledger.total_nbytes, text))


@dataclass(frozen=True, slots=True)
class Roots:
    """Root digests of the model and of the output, in hex."""

    source: str
    data: str

    @classmethod
    def of(cls, tensors: tuple[TensorResult, ...]) -> Roots:
        """Add up the tensors."""
        return cls(
            digests.root((t.name, bytes.fromhex(t.source_sha256)) for t in tensors),
            digests.root((t.name, bytes.fromhex(t.sha256)) for t in tensors),
        )


def _begin_or_resume(plan: Plan, target: Output, options: Options, descriptor: int) -> Recorded:
    identity = _identity(plan)
    recorded = journal.read(descriptor)
    changed = journal.differences(recorded.identity or {}, identity)
    if recorded.identity is not None and options.resume:
        if changed:
            text = "cannot go on with the interrupted apply: " + "; ".join(changed)
            raise RunError(Problem(str(target.finals[0]), text + ". Give --overwrite instead to start over"))
        journal.go_on(descriptor, recorded)
        return _without_lost_files(plan, target, recorded)
    if recorded.leaves and not changed and not options.overwrite:
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


@contextmanager
def _keeping_what_resumes(run: _Run, recorded: Recorded) -> Iterator[None]:
    """After a failure keep what a resume can use, and nothing else."""
    try:
        yield
    except BaseException as error:
        worthless = not recorded.leaves and not run.ledger.done_nbytes
        # A weight that is not a number stays so: going on would end there again.
        if worthless or isinstance(error, ModelFileError):
            files.discard(run.target)
        raise
    finally:
        stop.forget(run.name)


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
