"""Carrying out a reuse: hash the sources, look their keys up, copy what is found, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qxmix.errors import Problem
from qxmix.execute.digests import Gathered, combine
from qxmix.execute.drive import drive
from qxmix.execute.reuse import tensor_key
from qxmix.execute.task import Task, TaskResult
from qxmix.plan import Plan

if TYPE_CHECKING:
    from qxmix.execute.job import Job, Pass
    from qxmix.execute.pool import Pool
    from qxmix.execute.reuse import Older, Stored

Parts = tuple[bytes, ...]
"""Digests of a tensor's leaves."""


@dataclass(frozen=True, slots=True)
class Reused:
    """What a reuse came to for one output."""

    n_tensors: int = 0
    """Tensors that were copied whole and need not be made."""
    problems: tuple[Problem, ...] = ()
    """Copies that turned out to be damaged."""


def copy_unchanged(run: Pass, pool: Pool) -> tuple[Reused, ...]:
    """Copy from older outputs every tensor, not begun yet, that would come out the same; one result per output."""
    wanted = [_candidates(job, run.older) for job in run.jobs]
    sources = _hash_sources(run, pool, set().union(*wanted))
    reused = []
    for job, candidates in zip(run.jobs, wanted, strict=True):
        found = {i: stored for i in candidates if (stored := _look_up(job.plan, run.older, i, sources[i])) is not None}
        reused.append(_copy_and_measure(run, job, pool, found, sources))
    return tuple(reused)


def _candidates(job: Job, older: Older) -> set[int]:
    """Indices of the tensors whose kind occurs in older outputs."""
    return {
        i
        for i, t in enumerate(job.plan.tensors)
        if t.action == "encode" and not job.ledger.begun(i) and (t.type, t.nbytes) in older.kinds
    }


def _hash_sources(run: Pass, pool: Pool, wanted: set[int]) -> dict[int, Parts]:
    """Digests of tensors of the model, which are the same for all outputs."""
    sources: dict[int, Parts] = {}
    job = run.jobs[0]
    parts = Gathered[bytes]([t.source for t in job.plan.tensors])

    def note(task: Task, result: TaskResult) -> None:
        whole = parts.add(task.tensor, task.leaf, result.source_digest)
        if whole is not None:
            sources[task.tensor] = whole
        run.say("compare", task.name)

    tasks = job.tasks(run.options.chunking(pool.n_workers)) if wanted else ()
    drive((replace(t, action="hash") for t in tasks if t.tensor in wanted), pool, job.name, note)
    return sources


def _look_up(plan: Plan, older: Older, index: int, leaves: Parts) -> Stored | None:
    tensor = plan.tensors[index]
    stored = older.by_key.get(tensor_key(plan, tensor, combine(leaves).hex()))
    # A cached file that was cut short cannot be read to its end; one of the right length is judged by its digest.
    try:
        whole = stored is not None and stored.path.stat().st_size >= stored.offset + tensor.nbytes
    except OSError:  # another apply deleted it, or the file system is gone: it is made anew
        return None
    return stored if whole else None


def _copy_and_measure(
    run: Pass, job: Job, pool: Pool, found: Mapping[int, Stored], sources: Mapping[int, Parts]
) -> Reused:
    """Copy what was found; where deviations are reported, measure it before it is written down."""
    if not found:
        return Reused()
    copied: dict[tuple[int, int], TaskResult] = {}

    def keep(task: Task, result: TaskResult) -> None:
        copied[task.tensor, task.leaf] = result

    def measured(task: Task, result: TaskResult) -> None:
        run.write_down(task, copied[task.tensor, task.leaf]._replace(deviation=result.deviation))
        run.say("compare", task.name)

    if not run.options.report:
        return _copy(run, job, pool, found, sources, run.write_down)
    reused = _copy(run, job, pool, found, sources, keep)
    tasks = job.tasks(run.options.chunking(pool.n_workers))
    measuring = (replace(t, action="measure") for t in tasks if (t.tensor, t.leaf) in copied)
    drive(measuring, pool, job.name, measured)
    return reused


def _copy(
    run: Pass,
    job: Job,
    pool: Pool,
    found: Mapping[int, Stored],
    sources: Mapping[int, Parts],
    on_leaf: Callable[[Task, TaskResult], None],
) -> Reused:
    """Copy what was found; ``on_leaf`` is told each leaf of a tensor that was copied whole and undamaged."""
    copied = Gathered[tuple["Task", "TaskResult"]]([t.source for t in job.plan.tensors])
    n_tensors, problems = 0, []

    def note(task: Task, result: TaskResult) -> None:
        nonlocal n_tensors
        index = task.tensor
        leaf = result._replace(source_digest=sources[index][task.leaf])
        parts = copied.add(index, task.leaf, (task, leaf))
        if parts is not None and combine(r.digest for _, r in parts).hex() != found[index].sha256:
            problems.append(_damaged(task.name, found[index]))
        elif parts is not None:
            n_tensors += 1
            for part in parts:
                on_leaf(*part)
        run.say("compare", task.name)

    tasks = job.tasks(run.options.chunking(pool.n_workers))
    drive((_copying(job.plan, t, found[t.tensor]) for t in tasks if t.tensor in found), pool, job.name, note)
    return Reused(n_tensors, tuple(problems))


def _copying(plan: Plan, task: Task, stored: Stored) -> Task:
    return replace(
        task,
        action="copy",
        source=str(stored.path.absolute()),
        source_offset=stored.offset + task.target_offset - plan.tensors[task.tensor].offset,
        source_nbytes=task.target_nbytes,
        source_type=task.type,
    )


def _damaged(name: str, stored: Stored) -> Problem:
    if stored.cached:
        with suppress(OSError):  # a cache that may be read and not written
            stored.path.unlink(missing_ok=True)
    text = f"the copy in {stored.path} is damaged; the tensor was made anew"
    return Problem(name, text, "warning", "reuse-damaged")
