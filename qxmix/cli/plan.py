"""``qxmix plan``: what a recipe makes of a model, before anything is read or written."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from qxmix.cli.asked import Asked
from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import FILE, NAME, Beside, imatrix_option, moments_option, open_model, open_moments
from qxmix.cli.overwriting import LOCK, PAGE
from qxmix.cli.running import Machine, running_options
from qxmix.cli.splitting import split_options
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import PlanError
from qxmix.lint import examined, refused
from qxmix.plan import Plan, Split, make_plan
from qxmix.planning.lock import write_lock
from qxmix.planning.memory import Chunking
from qxmix.planning.scales import to_find
from qxmix.processors import n_processors
from qxmix.recipe import load_recipe
from qxmix.report.plan import plan_text
from qxmix.running.use import use_within


@click.command("plan")
@click.argument("recipe", type=NAME, shell_complete=complete_recipes)
@click.argument("model", type=NAME)
@imatrix_option
@moments_option
@click.option("--strict", is_flag=True, help="Warnings (fallbacks, unmatched rules, ...) are exit code 3, too.")
@click.option("every", "--all", is_flag=True, help="List every tensor, not groups.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object (schemas/plan.schema.json).")
@click.option("--markdown", is_flag=True, help="Print Markdown for a model card.")
@click.option("as_map", "--map", is_flag=True, help="Draw bits per weight, parts down and layers across.")
@click.option("explained", "--explain", metavar="TENSOR", help="Tell the whole way of one tensor to its type.")
@click.option("--html", type=Beside(PAGE), help="Write a page to look at, complete in one file.")
@click.option("--lock", type=Beside(LOCK), help="Write the types and hashes to this file.")
@click.option("--measure", type=FILE, help="Of qxmix measure: adds the predicted divergence.")
@click.option("--lattice", type=FILE, help="Of qxmix inspect --lattice: what is lost of it.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Workers that the memory estimate is for.")
@split_options
@running_options
@click.pass_context
def command(
    ctx: click.Context, recipe: str, model: str, imatrix: str | None, moments: str | None, jobs: int | None,
    lock: Path | None, html: Path | None, measure: Path | None, lattice: Path | None, explained: str | None,
    split: Split, machine: Machine,
    *, strict: bool, every: bool, as_json: bool, markdown: bool, as_map: bool,
) -> None:  # fmt: skip
    """Show what RECIPE makes of MODEL: every type, why, and the exact size.

    RECIPE is a file or the name of a shipped recipe like pure/q4_0; MODEL a GGUF file or its first shard, of which only
    the header is read.  Exit code 3: the plan breaks a policy of the recipe.
    """
    if as_json + markdown + every + as_map + (explained is not None) > 1:
        raise click.UsageError("--json, --markdown, --all, --map and --explain exclude each other")
    loaded = load_recipe(recipe)
    matrix = load_imatrix(imatrix) if imatrix else None
    plan = make_plan(loaded, open_model(model), matrix, split, open_moments(moments))
    engine = loaded.engines[0]
    use = machine.use(engine) or use_within(loaded.limits, engine)
    chunking = Chunking(n_workers=jobs or n_processors())
    terminal = sys.stdout.isatty()
    asked = Asked(lattice, use, measure, html, explained, as_json, markdown, as_map, chunking, terminal)
    plan, text = _answered(plan, asked, every=every)
    click.echo(text)
    code = exit_code(plan, strict=strict)
    if lock is not None and code == 0:
        write_lock(_with_factors(plan), lock)
    ctx.exit(code)


def _answered(plan: Plan, asked: Asked, *, every: bool) -> tuple[Plan, str]:
    show = partial(plan_text, chunking=asked.chunking, every=every, terminal=asked.terminal)
    if asked.beside:
        # A tenth of the time of a plan that needs none of it.
        from qxmix.cli.plan_answer import answer  # noqa: PLC0415

        return answer(plan, asked, show)
    plan = examined(plan)
    return plan, show(plan)


def _with_factors(plan: Plan) -> Plan:
    """The plan with what ``scale: auto`` comes to, which a lock holds; reads weights where it stands."""
    if not to_find(plan):
        return plan
    from qxmix.execute.find_factors import find_factors  # noqa: PLC0415 - numba, for those who ask for it

    return find_factors(plan)


def exit_code(plan: Plan, *, strict: bool) -> int:
    """3 for a plan with errors, under ``strict`` also for one with warnings, else 0."""
    return PlanError.exit_code if refused(plan.problems, strict=strict) else 0
