"""``qxmix lint``: what in a recipe is probably not what was meant, seen against a model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import FILE, NAME, imatrix_option, moments_option, open_measurement, open_model, open_moments
from qxmix.cli.plan import exit_code
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import Problem, severity_order
from qxmix.lint import examined
from qxmix.measurement.lattice import load_lattices
from qxmix.plan import Plan, make_plan
from qxmix.planning.lattice import with_lattices
from qxmix.publish import publish_problems
from qxmix.recipe import load_recipe
from qxmix.recipe.problem_ids import IDS
from qxmix.report.plan import headline, problem_counts, problems_text
from qxmix.report.problems import problem_json
from qxmix.report.text import table, wrapped


def _print_ids(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        rows = [(id_, known.about, known.silenced_by) for id_, known in IDS.items()]
        click.echo(table(("id", "what it is about", "silenced by"), rows, terminal=sys.stdout.isatty()))
        ctx.exit()


@click.command("lint")
@click.argument("recipe", type=NAME, shell_complete=complete_recipes)
@click.argument("model", type=NAME)
@imatrix_option
@moments_option
@click.option("--strict", is_flag=True, help="Warnings are exit code 3, too.")
@click.option("--measure", type=FILE, help="Of qxmix measure: rules that buy little, cost much.")
@click.option("--lattice", type=FILE, help="Of qxmix inspect --lattice: what is lost of it.")
@click.option("publish", "--publish", is_flag=True, help="Also what matters on a hub: the file's name, its size.")
@click.option("as_json", "--json", is_flag=True, help="Print a JSON list of problems (schemas/lint.schema.json).")
@click.option(
    "--ids", is_flag=True, is_eager=True, expose_value=False, callback=_print_ids, help="List the ids and exit."
)
@click.pass_context
def command(
    ctx: click.Context, recipe: str, model: str, imatrix: str | None, moments: str | None,
    measure: Path | None, lattice: Path | None, *, strict: bool, publish: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say what in RECIPE looks wrong for MODEL, of which only the header is read.

    All that plan reports, and suspicions: rules that others take tensors from, layers a pattern leaves out, tensors
    that nobody thought of.  A recipe silences an id with a reason: silence: {layer-gap: "the last layer is special"}.
    """
    loaded, matrix = load_recipe(recipe, validated=True), load_imatrix(imatrix) if imatrix else None
    plan = make_plan(loaded, open_model(model), matrix, moments=open_moments(moments))
    if lattice is not None:
        plan = with_lattices(plan, load_lattices(lattice, plan.header))
    plan = examined(plan, notes=True)
    more = (*(_worth(plan, measure) if measure is not None else ()), *(publish_problems(plan) if publish else ()))
    plan = replace(plan, problems=tuple(sorted((*plan.problems, *more), key=severity_order)))
    if as_json:
        click.echo(json.dumps([problem_json(p) for p in plan.problems], indent=1))
    else:
        terminal = sys.stdout.isatty()
        click.echo(wrapped(headline(plan), terminal=terminal))
        click.echo(
            problems_text(plan, terminal=terminal)
            + "\n" * bool(plan.problems)
            + (problem_counts(plan.problems) or "Nothing to say.")
        )
    ctx.exit(exit_code(plan, strict=strict))


def _worth(plan: Plan, measure: Path) -> tuple[Problem, ...]:
    # The solver, for those who have a measurement.
    from qxmix.solve.predict import predictor_of  # noqa: PLC0415
    from qxmix.solve.worth import worth  # noqa: PLC0415

    measurement = open_measurement(measure, plan.header, plan.imatrix)
    return worth(plan, predictor_of(plan.header, measurement, plan.recipe.engines), measurement.types)
