"""``qxmix diff``: what differs between two recipes, plans or models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import FILE, NAME, open_measurement, open_model
from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.diff import Diff, compare, load_sides
from qxmix.report.diff import diff_json, diff_markdown, diff_text
from qxmix.report.text import wrapped

if TYPE_CHECKING:
    from qxmix.solve.predict import Prediction


@click.command("diff")
@click.argument("a", type=NAME, shell_complete=complete_recipes)
@click.argument("b", type=NAME, shell_complete=complete_recipes)
@click.argument("model", type=NAME, required=False)
@click.option("--imatrix", type=NAME, help="Importance matrix that recipes are planned with.")
@click.option("--measure", type=FILE, help="Of qxmix measure: adds predicted divergence.")
@click.option("as_markdown", "--markdown", is_flag=True, help="Print Markdown, for a comment to a pull request.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object (schemas/diff.schema.json).")
@click.pass_context
def command(
    ctx: click.Context, a: str, b: str, model: str | None, imatrix: str | None, measure: Path | None,
    *, as_markdown: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare the types that A and B give each tensor, and what the difference weighs.

    A and B are recipes, plans (qxmix plan --json), lock files (qxmix plan --lock) or GGUF models, in any pairing, or
    one of these as a git revision has it: REV:path. Recipes are planned on MODEL, or on the other side if that is a
    model. Exit code 0: equal, 1: different.
    """
    if as_markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other")
    if measure is not None and (model is None or not as_markdown):
        raise click.UsageError("--measure is about a model and shown by --markdown; give both")
    matrix = load_imatrix(imatrix) if imatrix else None
    found = compare(*load_sides(a, b, model, matrix))
    for problem in (*found.a.problems, *found.b.problems):
        click.echo(wrapped(f"Warning: apply would refuse: {problem}", terminal=sys.stderr.isatty()), err=True)
    if as_json:
        click.echo(json.dumps(diff_json(found), indent=1))
    elif as_markdown:
        click.echo(diff_markdown(found, _predicted(found, model, matrix, measure) if model and measure else ()))
    else:
        click.echo(diff_text(found, terminal=sys.stdout.isatty()))
    ctx.exit(1 if found.changes else 0)


def _predicted(found: Diff, model: str, imatrix: Imatrix | None, measure: Path) -> tuple[Prediction, ...]:
    # The solver, for those who have a measurement.
    from qxmix.solve.lineup import entrant_of  # noqa: PLC0415
    from qxmix.solve.predict import predictor_of  # noqa: PLC0415

    header = open_model(model)
    predictor = predictor_of(header, open_measurement(measure, header, imatrix))
    sides = (entrant_of(side, predictor).predicted for side in (found.a, found.b))
    return tuple(p for p in sides if p is not None)
