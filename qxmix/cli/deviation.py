"""``qxmix deviation``: how far the weights of an existing file are from those it was made from."""

from __future__ import annotations

import json
import sys

import click

from qxmix.cli.inputs import NAME, jobs_option, open_model
from qxmix.cli.interrupt import stoppable
from qxmix.cli.progress import shown
from qxmix.container.imatrix_load import load_imatrix
from qxmix.execute.moved import moved_weights
from qxmix.report.deviation import deviations_json, deviations_text


@click.command("deviation")
@click.argument("output", type=NAME)
@click.argument("source", type=NAME)
@click.option("--imatrix", type=NAME, help="Importance matrix for the weighted error.")
@jobs_option
@click.option("--executor", default="threads", show_default=True, help="As for apply.")
@click.option("every", "--all", is_flag=True, help="Show every tensor, not only those that moved most.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object (schemas/deviation.schema.json).")
def command(
    output: str, source: str, imatrix: str | None, jobs: int | None, executor: str,
    *, every: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure how far the weights of OUTPUT, whoever wrote it, are from those of SOURCE.

    The figures are those of `qxmix apply --report`: tensors that have the same type in both are left out.
    """
    header, model = open_model(output), open_model(source)
    matrix = load_imatrix(imatrix) if imatrix else None
    parting = "Interrupted; not everything was compared."
    with stoppable(lambda: parting), shown() as on_progress:
        moved = moved_weights(header, model, matrix, n_workers=jobs, executor=executor, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps(deviations_json(str(header.path), str(model.path), moved), indent=1))
    elif moved:
        click.echo(deviations_text(moved, every=every, terminal=sys.stdout.isatty()))
    else:
        click.echo("All tensors have the same types in both files")
