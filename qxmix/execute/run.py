"""Carrying out a plan: reserve, work, check, sync, rename; and going on where an earlier apply was interrupted."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix import provenance
from qxmix.errors import ModelFileError, Problem, RunError
from qxmix.execute import journal, kernels, reuse, stop
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from qxmix.execute.begin import begin_or_resume, refuse_changed_model
from qxmix.execute.check import check_data
from qxmix.execute.drive import OnResult, drive
from qxmix.execute.flush import Flusher
from qxmix.execute.ledger import Ledger, Roots
from qxmix.execute.options import Options
from qxmix.execute.preflight import preflight
from qxmix.execute.result import OnProgress, Phase, Progress, Result, TensorResult, carried_over
from qxmix.execute.tasks import make_tasks, reading_target, refuse_too_little_memory
from qxmix.execute.unchanged import take_over_unchanged
from qxmix.execute.workers import Pool, n_cpus, open_pool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from qxmix.execute.journal import Recorded
    from qxmix.execute.output import Output
    from qxmix.execute.task import Task, TaskResult
    from qxmix.plan import Plan


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
    reuse_output: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
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
        reuse_output: An older output, whose tensors are taken over where nothing that decides them has changed.
        cache: A folder that does the same for all outputs made with it; new tensors are added to it.
        on_progress: Called in this thread after each unit of work.

    Raises:
        PlanError: the plan breaks a policy.
        ModelFileError: a weight is NaN or infinite, or an input changed.
        RunError: the output cannot be written; what was done is kept, and ``resume`` goes on with it.

    """
    started = time.perf_counter()
    target = files.name_output(plan, Path(output))
    replacing = overwrite or (resume and target.journal.exists())
    preflight(plan, target, overwrite=replacing, strict=strict)
    older = [reuse.in_output(Path(reuse_output))] if reuse_output is not None else []
    older += [reuse.in_folder(Path(cache))] if cache is not None else []
    folder = Path(cache) if cache is not None else None
    options = Options(n_workers, executor, memory_nbytes, report, reuse.merge(older), folder)
    with files.file_errors(target.journal.parent):
        target.journal.parent.mkdir(parents=True, exist_ok=True)
    aids = Aids()
    with files.locked(target.journal, aids) as descriptor:
        recorded = begin_or_resume(plan, target, descriptor, aids, resume=resume, overwrite=overwrite)
        run = _Run(plan, target, options, descriptor, aids, on_progress or (lambda _progress: None))
        with _keeping_what_resumes(run, recorded):
            return run.carry_out(recorded, started)


class _Run:
    """One apply while it has the lock."""

    def __init__(
        self, plan: Plan, target: Output, options: Options, descriptor: int, aids: Aids, on_progress: OnProgress
    ) -> None:
        self.plan, self.target, self.options, self.journal = plan, target, options, descriptor
        self.aids, self.on_progress = aids, on_progress
        self.name = uuid.uuid4().hex
        self.ledger = Ledger(plan)
        self.n_resumed = self.n_reused = 0
        self.problems: list[Problem] = []

    def carry_out(self, recorded: Recorded, started: float) -> Result:
        """Everything from the first tensor to the rename."""
        with Flusher((*self.target.partials, self.target.journal)) as flusher:
            with open_pool(self.options.executor, self.options.n_workers) as pool:
                # What is wrong with the executor or the bound on memory is told before half a minute of compiling.
                refuse_too_little_memory((self.plan,), self.options.chunking(pool.n_workers))
                self.say("kernels", ", ".join(kernels.uncompiled(self.plan)))
                kernels.warm(self.plan)
                kept = self.take_over(pool, recorded)
                kept |= self.take_over_unchanged(pool, flusher, kept)
                self.work(pool, flusher, kept)
            refuse_changed_model(self.plan, recorded)
            tensors = self.ledger.results()
            self.problems += map(carried_over, (t for t in tensors if t.flaw is not None))
            roots = Roots.of(self.plan, tensors)
            self.complete(tensors, roots)
            self.check(tensors)
            self.say("sync")
            sync_started = time.perf_counter()
            self.publish()
        now = time.perf_counter()
        self.fill_cache(tensors)
        self.say("done")
        return Result(
            paths=self.target.finals,
            nbytes=self.plan.file_nbytes,
            tensors=tensors,
            source_sha256=roots.source,
            data_sha256=roots.data,
            n_resumed=self.n_resumed,
            n_reused=self.n_reused,
            seconds=now - started,
            sync_seconds=now - sync_started,
            problems=(*self.problems, *self.aids.notes()),
        )

    def tasks(self, n_workers: int = 1) -> Iterator[Task]:
        """All tasks of the plan."""
        return make_tasks(self.plan, self.target.partials, self.options.chunking(n_workers), self.name)

    def take_over(self, pool: Pool, recorded: Recorded) -> set[tuple[int, int]]:
        """Read again what the journal names, and note the leaves that are as it says."""
        kept: set[tuple[int, int]] = set()

        def compare(task: Task, found: TaskResult) -> None:
            old = recorded.leaves[task.tensor, task.leaf]
            if found.digest == old.digest:
                kept.add((task.tensor, task.leaf))
                self.ledger.add(replace(old, flaw=found.flaw), task.model_nbytes)
            self.say("verify", task.name)

        tasks = (
            task
            for task in self.tasks(pool.n_workers)
            if (old := recorded.leaves.get((task.tensor, task.leaf))) is not None
            and (old.deviation is not None or not task.measure)
        )
        drive(map(reading_target, tasks), pool, self.name, compare)
        self.n_resumed = len(kept)
        return kept

    def take_over_unchanged(self, pool: Pool, flusher: Flusher, kept: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Copy from older outputs what would come out the same."""
        older = self.options.older
        begun = {tensor for tensor, _ in kept}
        candidates = {
            i
            for i, t in enumerate(self.plan.tensors)
            if t.action == "encode" and i not in begun and (t.type, t.nbytes) in older.kinds
        }

        def run(tasks: Iterable[Task], on_result: OnResult) -> None:
            def note(task: Task, result: TaskResult) -> None:
                on_result(task, result)
                self.say("compare", task.name)

            drive(tasks, pool, self.name, note)

        copied: dict[tuple[int, int], TaskResult] = {}

        def note_leaf(task: Task, result: TaskResult) -> None:
            if self.options.report:
                copied[task.tensor, task.leaf] = result
            else:
                self.note(flusher, task, result)

        taken = take_over_unchanged(self.plan, older, candidates, self.tasks, run, note_leaf)
        self.measure(pool, flusher, copied)
        self.problems += taken.problems
        self.n_reused = len(taken.tensors)
        return taken.leaves

    def measure(self, pool: Pool, flusher: Flusher, copied: dict[tuple[int, int], TaskResult]) -> None:
        """Measure leaves that were copied from an older output, and note them."""

        def note(task: Task, found: TaskResult) -> None:
            self.note(flusher, task, replace(copied[task.tensor, task.leaf], deviation=found.deviation))
            self.say("compare", task.name)

        tasks = (
            replace(task, action="measure")
            for task in self.tasks(pool.n_workers if copied else 1)
            if (task.tensor, task.leaf) in copied
        )
        drive(tasks, pool, self.name, note)

    def note(self, flusher: Flusher, task: Task, result: TaskResult) -> None:
        """Record a leaf that has been written."""
        journal.record(self.journal, result)
        self.ledger.add(result, task.model_nbytes)
        flusher.wrote(task.target_nbytes)

    def work(self, pool: Pool, flusher: Flusher, kept: set[tuple[int, int]]) -> None:
        """Make every leaf that is not kept."""

        def note(task: Task, result: TaskResult) -> None:
            self.note(flusher, task, result)
            self.say("work", task.name)

        tasks = (task for task in self.tasks(pool.n_workers) if (task.tensor, task.leaf) not in kept)
        drive(tasks, pool, self.name, note)

    def complete(self, tensors: tuple[TensorResult, ...], roots: Roots) -> None:
        """Write the headers, and compare the files with the plan."""
        values = {provenance.SOURCE_SHA256: roots.source, provenance.DATA_SHA256: roots.data}
        values |= reuse.key_fields(self.plan, tensors)
        for i, (path, planned) in enumerate(zip(self.target.partials, self.plan.files, strict=True)):
            header = provenance.fill(planned.header, values) if i == 0 else planned.header
            files.write_header(path, header)
            files.check(path, planned, header, i)

    def check(self, tensors: tuple[TensorResult, ...]) -> None:
        """Read the finished files once more."""

        def note(done_nbytes: int, name: str) -> None:
            self.on_progress(Progress("check", done_nbytes, self.ledger.total_nbytes, name))

        with open_pool("threads", min(self.options.n_workers or n_cpus(), n_cpus())) as pool:
            tasks = self.tasks(pool.n_workers)
            check_data(self.plan, self.target.partials, tensors, tasks, pool, self.name, note)

    def publish(self) -> None:
        """Sync, then give the files their names; whatever happens in between can be finished by a resume."""
        folder = self.target.journal.parent
        for path in self.target.partials:
            files.sync(path, self.aids)
        journal.record_checked(self.journal)
        files.sync_open(self.journal, self.target.journal, self.aids)
        files.sync(folder, self.aids)
        for partial, final in zip(self.target.partials, self.target.finals, strict=True):
            with files.file_errors(final, call="rename"):
                partial.replace(final)
        files.sync(folder, self.aids)
        # Whoever deleted it by hand changed nothing that counts: the output is complete.
        with self.aids.allow("unlink", self.target.journal, "the journal stays and may be deleted"):
            self.target.journal.unlink(missing_ok=True)

    def fill_cache(self, tensors: tuple[TensorResult, ...]) -> None:
        """Add new tensors to the cache; the output is complete, so a failure is only told."""
        if self.options.cache is not None:
            try:
                reuse.store(self.plan, tensors, self.target.finals, self.options.cache)
            except RunError as error:
                self.problems += [
                    replace(
                        p, text=f"not all tensors could be added to the cache: {p.text}", severity="warning", id="cache"
                    )
                    for p in error.problems
                ]

    def say(self, phase: Phase, text: str = "") -> None:
        """Report progress."""
        self.on_progress(Progress(phase, self.ledger.done_nbytes, self.ledger.total_nbytes, text))


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
