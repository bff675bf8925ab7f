"""``qxmix diff``: what differs between two recipes, plans or models."""

from __future__ import annotations

import json
import sys

import click

from qxmix.container.imatrix import load_imatrix
from qxmix.diff import compare, load_sides
from qxmix.report.diff import diff_json, diff_text
from qxmix.report.text import wrapped


@click.command("diff")
@click.argument("a", type=click.Path(path_type=str))
@click.argument("b", type=click.Path(path_type=str))
@click.argument("model", type=click.Path(path_type=str), required=False)
@click.option("--imatrix", type=click.Path(path_type=str), help="Importance matrix that recipes are planned with.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, a: str, b: str, model: str | None, imatrix: str | None, *, as_json: bool) -> None:
    """Compare the types that A and B give each tensor, and what the difference weighs.

    A and B are recipes, plans (qxmix plan --json), lock files (qxmix plan --lock) or GGUF models, in any pairing.
    Recipes are planned on MODEL, or on the other side if that is a model.  Exit code 0: equal, 1: different.
    """
    found = compare(*load_sides(a, b, model, load_imatrix(imatrix) if imatrix else None))
    for problem in (*found.a.problems, *found.b.problems):
        click.echo(wrapped(f"Warning: apply would refuse: {problem}", terminal=sys.stderr.isatty()), err=True)
    click.echo(json.dumps(diff_json(found), indent=1) if as_json else diff_text(found, terminal=sys.stdout.isatty()))
    ctx.exit(1 if found.changes else 0)
