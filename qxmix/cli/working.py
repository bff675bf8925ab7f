"""Options that say how an apply works, of which nothing changes a byte of the output."""

from __future__ import annotations

from pathlib import Path

import click

from qxmix.cli.bundle import bundled
from qxmix.cli.inputs import FILE, jobs_option
from qxmix.cli.sizes import SIZE
from qxmix.execute.options import Options


def _options(
    *, jobs: int | None, executor: str, memory: int | None, report: bool, resume: bool, overwrite: bool, strict: bool,
    reuse: Path | None, cache: Path | None,
) -> Options:  # fmt: skip
    return Options(jobs, executor, memory, report, resume, overwrite, strict, reuse, cache)


working_options = bundled(
    "options", _options,
    jobs_option,
    click.option("--overwrite", is_flag=True, help="Replace an output that exists, or start an interrupted one over."),
    click.option("--resume", is_flag=True, help="Go on with an interrupted apply."),
    click.option("--reuse", type=FILE, help="An older output: tensors that did not change are copied from it."),
    click.option("--cache", type=FILE, help="A folder that keeps tensors for later applies."),
    click.option("--strict", is_flag=True, help="Warnings (fallbacks, unmatched rules, ...) are exit code 3, too."),
    click.option("--memory", type=SIZE, help="Bound on memory, e.g. 400M; below it, fewer rows are held at once."),
    click.option(
        "--executor", default="threads", show_default=True,
        help="threads, processes, serial, dask:ADDRESS, or package:callable that returns an Executor.",
    ),
    click.option("--report", is_flag=True, help="Measure how far each tensor's weights move."),
)  # fmt: skip
"""How the work is done; the command gets ``options``."""
