"""``qxmix apply``: carry out what ``qxmix plan`` shows."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qxmix.cli.inputs import open_model, open_moments
from qxmix.cli.interrupt import Interrupted, stoppable
from qxmix.cli.plan import make_split, split_options
from qxmix.cli.progress import shown
from qxmix.cli.sizes import Size
from qxmix.cli.streams import notice
from qxmix.container.imatrix import load_imatrix
from qxmix.execute.output import name_output
from qxmix.execute.preflight import preflight
from qxmix.execute.run import apply
from qxmix.lint import examined
from qxmix.plan import make_plan
from qxmix.planning.lock import check_lock
from qxmix.planning.naming import default_name
from qxmix.recipe import load_recipe
from qxmix.report.plan import headline, plan_text
from qxmix.report.plan_json import plan_json
from qxmix.report.result import result_json, result_text
from qxmix.report.text import wrapped

if TYPE_CHECKING:
    from qxmix.execute.result import Progress
    from qxmix.plan import Plan


@click.command("apply")
@click.argument("recipe", type=click.Path(path_type=str))
@click.argument("model", type=click.Path(path_type=str))
@click.option(
    "-o", "--output", type=click.Path(path_type=str),
    help="File to write, or a folder (one that is there, or NAME/). Default: the model's name with the recipe's, here.",
)  # fmt: skip
@click.option("--imatrix", type=click.Path(path_type=str), help="Importance matrix, .dat or GGUF.")
@click.option("--moments", type=click.Path(path_type=str), help="Second moments, for 'feedback' in the recipe.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Workers. Default: one per processor.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists, or start an interrupted one over.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted apply.")
@click.option(
    "--reuse", type=click.Path(path_type=str), help="An older output: tensors that did not change are copied from it."
)
@click.option("--cache", type=click.Path(path_type=str), help="A folder that keeps tensors for later applies.")
@click.option("--locked", type=click.Path(path_type=Path), help="Insist on this lock file of qxmix plan --lock.")
@click.option("--dry-run", is_flag=True, help="Show the plan and check inputs, permissions and space; write nothing.")
@click.option("--strict", is_flag=True, help="Warnings (fallbacks, unmatched rules, ...) are exit code 3, too.")
@click.option("--memory", type=Size(), help="Bound on memory, e.g. 400M; below it, fewer rows are held at once.")
@click.option(
    "--executor", default="threads", show_default=True,
    help="threads, processes, serial, dask:ADDRESS, or package:callable that returns an Executor.",
)  # fmt: skip
@click.option("--report", is_flag=True, help="Measure how far each tensor's weights move.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object, with the digest of each tensor.")
@split_options
@click.pass_context
def command(
    ctx: click.Context, recipe: str, model: str, output: str | None, imatrix: str | None, moments: str | None,
    jobs: int | None, memory: int | None, executor: str, reuse: str | None, cache: str | None, locked: Path | None,
    split_max_size: int | None, split_max_tensors: int | None,
    *, overwrite: bool, resume: bool, dry_run: bool, strict: bool, report: bool, as_json: bool, keep_split: bool,
) -> None:  # fmt: skip
    """Quantize MODEL as RECIPE says.

    The output appears under its name only when it is complete, checked and on the disk.  An interrupted apply goes on
    with --resume.
    """
    split = make_split(split_max_size, split_max_tensors, keep_split=keep_split)
    loaded = load_recipe(recipe)
    plan = make_plan(
        loaded, open_model(model), load_imatrix(imatrix) if imatrix else None, split, open_moments(moments)
    )
    plan = examined(plan)
    if locked is not None:
        check_lock(plan, locked)
    path = _output_path(plan, output)
    if dry_run:
        preflight(plan, name_output(plan, path), overwrite=overwrite or resume, strict=strict)
        _show_plan(plan, path, jobs or os.cpu_count() or 1, as_json=as_json)
        return
    settings: dict[str, Any] = {
        "n_workers": jobs, "executor": executor, "memory_nbytes": memory, "report": report, "resume": resume,
        "overwrite": overwrite, "strict": strict, "reuse_output": reuse, "cache": cache,
    }  # fmt: skip
    _announce(plan, strict=strict)
    phase = ""

    def note(progress: Progress) -> None:
        nonlocal phase
        phase = progress.phase
        on_progress(progress)

    try:
        with stoppable(lambda: _how_to_go_on(plan, path, phase)), shown() as on_progress:
            result = apply(plan, path, on_progress=note, **settings)
    except Interrupted as stopped:
        notice(_how_to_go_on(plan, path, phase))
        ctx.exit(stopped.exit_code)
    if as_json:
        click.echo(json.dumps(result_json(plan, result), indent=1))
    else:
        click.echo(result_text(plan, result, terminal=sys.stdout.isatty()))


def _output_path(plan: Plan, output: str | None) -> Path:
    if output is None:
        return Path(default_name(plan))
    # Not Path.is_dir, which raises where a name is too long.
    a_folder = output.endswith(os.sep) or os.path.isdir(output)  # noqa: PTH112
    return Path(output) / default_name(plan) if a_folder else Path(output)


def _show_plan(plan: Plan, path: Path, n_workers: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(plan_json(plan, n_workers=n_workers), indent=1))
    else:
        click.echo(plan_text(plan, n_workers=n_workers, output=str(path), terminal=sys.stdout.isatty()))
        click.echo("\nDry run: nothing was written.")


def _announce(plan: Plan, *, strict: bool) -> None:
    terminal = sys.stderr.isatty()
    notice(wrapped(headline(plan), terminal=terminal))
    warnings = [p for p in plan.problems if p.severity == "warning"]
    if strict and warnings:
        # Each follows as an error.
        notice("With --strict warnings are errors:")
        return
    for problem in warnings:
        notice(wrapped(f"Warning: {problem}", terminal=terminal))


def _how_to_go_on(plan: Plan, path: Path, phase: str) -> str:
    if not name_output(plan, path).journal.exists():
        if phase == "sync":
            return "Interrupted when the output was complete; only the cache was not filled."
        return "Interrupted before any tensor was done; nothing was written."
    arguments = [a for a in sys.argv[1:] if a not in {"--resume", "--overwrite"}]
    return f"Interrupted; what is done is kept. Go on with:\n  qxmix {shlex.join([*arguments, '--resume'])}"
