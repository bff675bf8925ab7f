"""``qxmix plan``: what a recipe makes of a model, before anything is read or written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import open_measurement, open_model, open_moments
from qxmix.cli.running import engine_of, running_options, use_of
from qxmix.cli.sizes import FileSize
from qxmix.container.imatrix import load_imatrix
from qxmix.errors import PlanError
from qxmix.explain import explain
from qxmix.lint import examined, refused
from qxmix.measurement.lattice import load_lattices
from qxmix.plan import Split, make_plan
from qxmix.planning.lattice import with_lattices
from qxmix.planning.lock import write_lock
from qxmix.processors import n_processors
from qxmix.recipe import load_recipe
from qxmix.report.explain import explanation_text
from qxmix.report.heat_map import map_text
from qxmix.report.plan import plan_text
from qxmix.report.plan_json import plan_json
from qxmix.report.plan_markdown import plan_markdown
from qxmix.report.running import running_json, running_text
from qxmix.running.place import running
from qxmix.running.use import use_within

if TYPE_CHECKING:
    from qxmix.plan import Plan
    from qxmix.quants import QuantType
    from qxmix.report.page.insight import Insight
    from qxmix.report.predicted import Predicted
    from qxmix.running.model import Running


def split_options(function: click.decorators.FC) -> click.decorators.FC:
    """The options that say how the output is split."""
    for option in (
        click.option(
            "--no-tensor-first-split", "bare_first", is_flag=True, help="Metadata alone in the first of the files."
        ),
        click.option("--keep-split", is_flag=True, help="Split the output as the model is split."),
        click.option("--split-max-tensors", type=click.IntRange(min=1), help="Most tensors of a file."),
        click.option(
            "--split-max-size",
            type=FileSize(),
            help="Most bytes of a file: 24GB, 350GiB, or hub (50GB, as the hub has it).",
        ),
    ):
        function = option(function)
    return function


def make_split(
    split_max_size: int | None, split_max_tensors: int | None, *, keep_split: bool, bare_first: bool
) -> Split:
    """The split that the options ask for.

    Raises:
        click.UsageError: to keep the split and to make another, or a first file where there is but one.

    """
    if bare_first and not (split_max_size or split_max_tensors):
        raise click.UsageError("--no-tensor-first-split is about a split; give --split-max-size or --split-max-tensors")
    if keep_split and (split_max_size or split_max_tensors):
        raise click.UsageError("--keep-split and --split-max-... exclude each other")
    return Split(split_max_size, split_max_tensors, keep_split, bare_first)


@click.command("plan")
@click.argument("recipe", type=click.Path(path_type=str), shell_complete=complete_recipes)
@click.argument("model", type=click.Path(path_type=str))
@click.option("--imatrix", type=click.Path(path_type=str), help="Importance matrix, .dat or GGUF.")
@click.option("--moments", type=click.Path(path_type=str), help="Second moments, for 'feedback' in the recipe.")
@click.option("--strict", is_flag=True, help="Warnings (fallbacks, unmatched rules, ...) are exit code 3, too.")
@click.option("every", "--all", is_flag=True, help="List every tensor, not groups.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object (schemas/plan.schema.json).")
@click.option("--markdown", is_flag=True, help="Print Markdown for a model card.")
@click.option("as_map", "--map", is_flag=True, help="Draw bits per weight, parts down and layers across.")
@click.option("explained", "--explain", metavar="TENSOR", help="Tell the whole way of one tensor to its type.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page to look at, complete in one file.")
@click.option("--lock", type=click.Path(path_type=Path), help="Write the types and hashes to this file.")
@click.option("--measure", type=click.Path(path_type=Path), help="Of qxmix measure: adds the predicted divergence.")
@click.option("--lattice", type=click.Path(path_type=Path), help="Of qxmix inspect --lattice: what is lost of it.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Workers that the memory estimate is for.")
@split_options
@running_options
@click.pass_context
def command(
    ctx: click.Context, recipe: str, model: str, imatrix: str | None, moments: str | None, jobs: int | None,
    split_max_size: int | None, split_max_tensors: int | None,
    lock: Path | None, html: Path | None, measure: Path | None, lattice: Path | None, explained: str | None,
    n_ctx: int | None, kv_type: QuantType | None, vram: tuple[int, ...] | None, ram: int | None, parallel: int | None,
    *, strict: bool, every: bool, as_json: bool, markdown: bool, as_map: bool, keep_split: bool, bare_first: bool,
) -> None:  # fmt: skip
    """Show what RECIPE makes of MODEL: every type, why, and the exact size.

    RECIPE is a file or the name of a shipped recipe like pure/q4_0; MODEL a GGUF file or its first shard, of which only
    the header is read.  Exit code 3: the plan breaks a policy of the recipe.
    """
    if as_json + markdown + every + as_map + (explained is not None) > 1:
        raise click.UsageError("--json, --markdown, --all, --map and --explain exclude each other")
    split = make_split(split_max_size, split_max_tensors, keep_split=keep_split, bare_first=bare_first)
    loaded = load_recipe(recipe)
    matrix = load_imatrix(imatrix) if imatrix else None
    plan = make_plan(loaded, open_model(model), matrix, split, open_moments(moments))
    plan = examined(plan if lattice is None else with_lattices(plan, load_lattices(lattice, plan.header)))
    n_workers = jobs or n_processors()
    engine = engine_of(loaded)
    use = use_of(engine, n_ctx, kv_type, vram, ram, parallel) or use_within(loaded.limits, engine)
    found = running(plan.header, {t.name: t.nbytes for t in plan.tensors}, use) if use else None
    predicted = _predicted(plan, measure) if measure is not None else None
    if as_json:
        more = {"predicted": predicted.as_json()} if predicted else {}
        more |= {"running": running_json(found)} if found else {}
        click.echo(json.dumps(plan_json(plan, n_workers=n_workers) | more, indent=1))
    elif markdown:
        click.echo(plan_markdown(plan))
    elif explained is not None:
        click.echo(explanation_text(plan, explain(plan, explained), terminal=sys.stdout.isatty()))
    elif as_map:
        click.echo(_map(plan))
    else:
        click.echo(plan_text(plan, n_workers=n_workers, every=every, terminal=sys.stdout.isatty()))
    if not as_json:
        _echo_more(found, predicted, terminal=sys.stdout.isatty() and not markdown)
    if html is not None:
        _write_page(plan, measure, found, html)
    code = exit_code(plan, strict=strict)
    if lock is not None and code == 0:
        write_lock(plan, lock)
    ctx.exit(code)


def _echo_more(found: Running | None, predicted: Predicted | None, *, terminal: bool) -> None:
    if found:
        click.echo("\n" + running_text(found, terminal=terminal))
    if predicted:
        click.echo("\n" + predicted.as_text(terminal=terminal))


def _map(plan: Plan) -> str:
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return map_text(plan, width=shutil.get_terminal_size().columns, colour=colour)


def _write_page(plan: Plan, measure: Path | None, found: Running | None, path: Path) -> None:
    from qxmix.report.page import plan_page, write_page  # noqa: PLC0415 - jinja2, for pages alone

    insight = _insight(plan, measure) if measure is not None else None
    write_page(plan_page(plan, insight, found), path)


def _insight(plan: Plan, measure: Path) -> Insight:
    # The solver, for those who have a measurement and want a page.
    from qxmix.report.page.insight import insight_of  # noqa: PLC0415
    from qxmix.solve.predict import predictor_of  # noqa: PLC0415

    measurement = open_measurement(measure, plan.header, plan.imatrix)
    return insight_of(plan, predictor_of(plan.header, measurement, plan.recipe.engines), measurement.types)


def _predicted(plan: Plan, measure: Path) -> Predicted:
    from qxmix.report.predicted import predicted_of  # noqa: PLC0415 - the solver, for those who have a measurement

    return predicted_of(plan, open_measurement(measure, plan.header, plan.imatrix))


def exit_code(plan: Plan, *, strict: bool) -> int:
    """3 for a plan with errors, under ``strict`` also for one with warnings, else 0."""
    return PlanError.exit_code if refused(plan.problems, strict=strict) else 0
