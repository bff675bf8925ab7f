"""``qxmix imatrix diff``: what differs between two importance matrices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qxmix.cli.inputs import FILE
from qxmix.container.imatrix_load import load_imatrix
from qxmix.importance.compare import compare
from qxmix.report.imatrix import diff_json, diff_text


@click.command("diff")
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option("every", "--all", is_flag=True, help="List every entry.")
@click.option("as_json", "--json", is_flag=True, help="One object, as in schemas/imatrix-diff.schema.json.")
@click.pass_context
def command(ctx: click.Context, a: Path, b: Path, *, every: bool, as_json: bool) -> None:
    """Show how far the importances of B lie from those of A, by category and layer.

    "Moved" is the share of a tensor's importance that lies on other columns; a factor common to all columns of a tensor
    changes nothing for an encoder and is told apart.  Exit code 1 if anything differs.
    """
    first, second = load_imatrix(a), load_imatrix(b)
    found = compare(first, second)
    if as_json:
        click.echo(json.dumps(diff_json(first, second, found), indent=1))
    else:
        click.echo(diff_text(first, second, found, every=every, terminal=sys.stdout.isatty()))
    ctx.exit(0 if found.same else 1)
