"""Carrying out plans: reserve, work, check, sync, rename; and going on where an earlier apply was interrupted.

Several plans for one model are carried out in one pass over it; one plan is the same with one output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from qxmix.errors import ModelFileError
from qxmix.execute import kernels, stop
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from qxmix.execute.begin import begin, look, refuse_changed_model
from qxmix.execute.drive import drive, drive_bundles
from qxmix.execute.find_factors import find_factors
from qxmix.execute.finish import fill_cache, publish, read_finished, write_headers
from qxmix.execute.flush import Flusher
from qxmix.execute.job import Job, Pass
from qxmix.execute.ledger import Ledger, Roots
from qxmix.execute.open_files import allow_open_files
from qxmix.execute.options import Options
from qxmix.execute.output import Output
from qxmix.execute.pool import Pool
from qxmix.execute.preflight import Wanted, preflight
from qxmix.execute.result import OnProgress, Result, TensorResult, carried_over
from qxmix.execute.task import Bundle, Task, TaskResult
from qxmix.execute.tasks import make_bundles, reading_target, refuse_too_little_memory
from qxmix.execute.unchanged import Reused, copy_unchanged
from qxmix.execute.workers import open_pool
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
    options = Options(
        n_workers=n_workers,
        executor=executor,
        memory_nbytes=memory_nbytes,
        report=report,
        resume=resume,
        overwrite=overwrite,
        strict=strict,
        reuse_output=Path(reuse_output) if reuse_output is not None else None,
        cache=Path(cache) if cache is not None else None,
    )
    return apply_all([(plan, output)], options, on_progress)[0]


def apply_all(
    outputs: Sequence[tuple[Plan, str | os.PathLike[str]]],
    options: Options = Options(),  # noqa: B008 - frozen
    on_progress: OnProgress | None = None,
) -> tuple[Result, ...]:
    """Write the outputs of several plans for one model in one pass over it, each as :func:`apply` would.

    A leaf of a tensor is read and decoded once, and encoded once for all outputs in which it comes out the same.  What
    can be refused is refused before any output is begun.  All get their names at the end; when something fails, each
    keeps what it has, and a resume of the same or of fewer plans goes on with it.

    Args:
        outputs: Plans, each with its file.
        options: What :func:`apply` is told about the work.
        on_progress: Called in this thread after each unit of work; the bytes count once for each output.

    Raises:
        PlanError: as for :func:`apply`.
        ModelFileError: the same.
        RunError: the same; besides, two plans would write one file, or too many files would be open.

    """
    started = time.perf_counter()
    wanted = []
    for plan, path in outputs:
        target = files.name_output(plan, Path(path))
        wanted.append(Wanted(plan, target, options.overwrite or (options.resume and target.journal.exists())))
    preflight(wanted, strict=options.strict)
    wanted = [replace(o, plan=find_factors(o.plan, options.n_workers)) for o in wanted]
    allow_open_files(len(wanted), options.executor, options.n_workers)
    older = options.older()
    with ExitStack() as held:
        jobs = _begin_all(wanted, options, held)
        flusher = Flusher([path for job in jobs for path in (*job.target.partials, job.target.journal)])
        by_name = {job.name: job for job in jobs}
        return _carry_out(Pass(by_name, options, older, flusher, on_progress or (lambda _progress: None)), started)


def _begin_all(wanted: Sequence[Wanted], options: Options, held: ExitStack) -> list[Job]:
    """Lock all outputs, then look at what is left of earlier applies, then reserve the files."""
    aids = [Aids() for _ in wanted]
    locks = [held.enter_context(_locked(o.target, aid)) for o, aid in zip(wanted, aids, strict=True)]
    left = [
        look(o.plan, o.target, lock, resume=options.resume, overwrite=options.overwrite)
        for o, lock in zip(wanted, locks, strict=True)
    ]
    jobs = []
    for o, lock, aid, found in zip(wanted, locks, aids, left, strict=True):
        recorded = begin(o.plan, o.target, lock, aid, found)
        jobs.append(Job(o.plan, o.target, lock, recorded, aid, Ledger(o.plan, options.expected)))
        held.enter_context(_keeping_what_resumes(jobs[-1], alone=len(wanted) == 1))
    return jobs


def _carry_out(run: Pass, started: float) -> tuple[Result, ...]:
    """Everything from the first tensor to the last rename."""
    with run.flusher:
        with open_pool(run.options.executor, run.options.n_workers) as pool:
            _get_ready(run, pool)
            n_resumed = [_read_again(run, job, pool) for job in run.jobs]
            reused = copy_unchanged(run, pool)
            _make_the_rest(run, pool)
        for job in run.jobs:
            refuse_changed_model(job.plan, job.recorded)
        tensors = [job.ledger.results() for job in run.jobs]
        roots = [Roots.of(job.plan, written) for job, written in zip(run.jobs, tensors, strict=True)]
        for job, written, root in zip(run.jobs, tensors, roots, strict=True):
            write_headers(job, written, root)
        run.flusher.begin()
        read_finished(run, tensors)
        run.say("sync")
        sync_started = time.perf_counter()
        publish(run.jobs)
    ended = time.perf_counter()
    times = ended - started, ended - sync_started
    parts = zip(run.jobs, tensors, roots, n_resumed, reused, strict=True)
    results = tuple(_result(run, *part, times) for part in parts)
    run.say("done")
    return results


def _result(
    run: Pass,
    job: Job,
    tensors: tuple[TensorResult, ...],
    roots: Roots,
    n_resumed: int,
    reused: Reused,
    times: tuple[float, float],
) -> Result:
    """What one output came to; the cache is filled from it."""
    cache_problems = fill_cache(job, tensors, run.options)
    not_finite = map(carried_over, (t for t in tensors if t.flaw is not None))
    return Result(
        paths=job.target.finals,
        nbytes=job.plan.file_nbytes,
        tensors=tensors,
        source_sha256=roots.source,
        data_sha256=roots.data,
        n_resumed=n_resumed,
        n_reused=reused.n_tensors,
        seconds=times[0],
        sync_seconds=times[1],
        problems=(*reused.problems, *not_finite, *cache_problems, *job.aids.notes()),
    )


def _get_ready(run: Pass, pool: Pool) -> None:
    """Refuse what cannot be done in this pool, and load or compile the kernels."""
    plans = [job.plan for job in run.jobs]
    # What is wrong with the executor or the bound on memory is told before half a minute of compiling.
    refuse_too_little_memory(plans, run.options.chunking(pool.n_workers))
    run.say("kernels", ", ".join(kernels.uncompiled(*plans)))
    kernels.warm(*plans)


def _read_again(run: Pass, job: Job, pool: Pool) -> int:
    """Read what an interrupted apply has written, and count and note the leaves that are as its journal says."""
    recorded, n_as_recorded = job.recorded.leaves, 0
    if not recorded:
        return 0

    def compare(task: Task, found: TaskResult) -> None:
        nonlocal n_as_recorded
        old = recorded[task.tensor, task.leaf]
        if found.digest == old.digest:
            n_as_recorded += 1
            job.ledger.add(old._replace(flaw=found.flaw), task.model_nbytes)
        run.say("verify", task.name)

    tasks = (
        task
        for task in job.tasks(run.options.chunking(pool.n_workers))
        if (old := recorded.get((task.tensor, task.leaf))) is not None
        and (old.deviation is not None or not task.measure)
    )
    drive(map(reading_target, tasks), pool, job.name, compare)
    return n_as_recorded


def _make_the_rest(run: Pass, pool: Pool) -> None:
    """Make every leaf of every output that is not done."""

    def note(task: Task, result: TaskResult) -> None:
        run.write_down(task, result)
        run.say("work", task.name)

    drive_bundles(_missing(run, pool), pool, run.by_name, note)


def _missing(run: Pass, pool: Pool) -> Iterator[Bundle]:
    """What is not done, leaf by leaf, for the outputs that lack it."""
    chunking = run.options.chunking(pool.n_workers)
    bundles = make_bundles([job.plan for job in run.jobs], [job.tasks(chunking) for job in run.jobs], chunking)
    for bundle in bundles:
        missing = tuple(t for t in bundle if not run.by_name[t.run].ledger.has(t.tensor, t.leaf))
        if missing:
            yield missing


@contextmanager
def _locked(target: Output, aids: Aids) -> Iterator[int]:
    """The journal, for this apply alone; where it came to nothing, an empty one does not stay, nor does its folder."""
    with files.folder_of(target.journal), files.locked(target.journal, aids) as descriptor:
        try:
            yield descriptor
        except BaseException:
            if not os.fstat(descriptor).st_size:
                files.discard(target, descriptor)
            raise


@contextmanager
def _keeping_what_resumes(job: Job, *, alone: bool) -> Iterator[None]:
    """After a failure keep what a resume can use, and nothing else."""
    try:
        yield
    except BaseException as error:
        worthless = not job.recorded.leaves and not job.ledger.done_nbytes
        # A weight that is not a number stays so, and going on would end there again; but not without the recipe that
        # encodes it, so of several outputs each is kept.
        if worthless or (alone and isinstance(error, ModelFileError)):
            files.discard(job.target, job.journal)
        raise
    finally:
        stop.forget(job.name)
