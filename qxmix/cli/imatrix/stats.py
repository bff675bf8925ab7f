"""``qxmix imatrix stats``: what the importances of each tensor are like."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qxmix.cli.inputs import FILE
from qxmix.container.imatrix_load import load_imatrix
from qxmix.importance.coverage import coverage
from qxmix.importance.stats import stats
from qxmix.report.imatrix import stats_json, stats_text


@click.command("stats")
@click.argument("file", type=FILE)
@click.option("as_json", "--json", is_flag=True, help="One object, as in schemas/imatrix-stats.schema.json.")
def command(file: Path, *, as_json: bool) -> None:
    """Describe each tensor's importances in FILE, and say which experts the text did not reach.

    Sum, least, most and mean; the share of columns that carry 90 % of the sum; the entropy of the shares in bits, and
    as a part of what equal shares have; the cosine with the same tensor of the layer before.
    """
    imatrix = load_imatrix(file)
    entries, covered = stats(imatrix), list(coverage(imatrix))
    if as_json:
        click.echo(json.dumps(stats_json(imatrix, entries, covered), indent=1))
    else:
        click.echo(stats_text(imatrix, entries, covered, terminal=sys.stdout.isatty()))
