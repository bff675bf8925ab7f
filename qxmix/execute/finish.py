"""The end of an apply: headers, a last look at the files, the disk, the names, the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix import provenance, system
from qxmix.errors import Problem, RunError
from qxmix.execute import journal, reuse
from qxmix.execute import output as files
from qxmix.execute.check import check_data
from qxmix.execute.result import Progress, TensorResult
from qxmix.execute.workers import open_pool
from qxmix.processors import n_processors

if TYPE_CHECKING:
    from qxmix.execute.job import Job, Pass
    from qxmix.execute.ledger import Roots
    from qxmix.execute.options import Options


def write_headers(job: Job, tensors: tuple[TensorResult, ...], roots: Roots) -> None:
    """Write the headers, with the digests that are known now, and compare the files with the plan."""
    values = {provenance.SOURCE_SHA256: roots.source, provenance.DATA_SHA256: roots.data}
    values |= reuse.key_fields(job.plan, tensors)
    for i, (path, planned) in enumerate(zip(job.target.partials, job.plan.files, strict=True)):
        header = provenance.fill(planned.header, values) if i == 0 else planned.header
        files.write_header(path, header)
        files.check(path, planned, header)


def read_finished(run: Pass, tensors: Sequence[tuple[TensorResult, ...]]) -> None:
    """Read the finished files once more, in threads of this process whatever the executor was."""
    total, before = sum(job.ledger.total_nbytes for job in run.jobs), 0

    def note(done_nbytes: int, name: str) -> None:
        run.on_progress(Progress("check", before + done_nbytes, total, name))

    n_all = n_processors()
    with open_pool("threads", min(run.options.n_workers or n_all, n_all)) as pool:
        for job, written in zip(run.jobs, tensors, strict=True):
            tasks = job.tasks(run.options.chunking(pool.n_workers))
            check_data(job.plan, job.target.partials, written, tasks, pool, job.name, note)
            before += job.ledger.total_nbytes


def publish(jobs: Sequence[Job]) -> None:
    """Sync, then give all files their names; whatever happens in between can be finished by a resume.

    A journal goes when all names are there: an output that has its name and no journal is finished, and so are the
    others.
    """
    for job in jobs:
        for path in job.target.partials:
            files.sync(path, job.aids)
    for job in jobs:
        journal.record_checked(job.journal)
        files.sync_open(job.journal, job.target.journal, job.aids)
    _sync_folders(jobs)
    for job in jobs:
        for partial, final in zip(job.target.partials, job.target.finals, strict=True):
            with files.file_errors(final, call="rename"):
                system.replace(partial, final)
    _sync_folders(jobs)
    for job in jobs:
        # Whoever deleted it by hand changed nothing that counts: the output is complete.
        with job.aids.allow("unlink", job.target.journal, "the journal stays and may be deleted"):
            files.drop_journal(job.journal, job.target.journal)


def _sync_folders(jobs: Sequence[Job]) -> None:
    for folder, job in {job.target.journal.parent: job for job in jobs}.items():
        files.sync(folder, job.aids)


def fill_cache(job: Job, tensors: tuple[TensorResult, ...], options: Options) -> tuple[Problem, ...]:
    """Add new tensors to the cache, if there is one; the output is complete, so a failure is only told."""
    if options.cache is None:
        return ()
    try:
        reuse.store(job.plan, tensors, job.target.finals, options.cache)
    except RunError as error:
        text = "not all tensors could be added to the cache"
        return tuple(replace(p, text=f"{text}: {p.text}", severity="warning", id="cache") for p in error.problems)
    return ()
