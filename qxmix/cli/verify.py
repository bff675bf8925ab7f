"""``qxmix verify``: whether an output still is what was written, and what its recipe makes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.inputs import FILE, NAME, jobs_option, open_model
from qxmix.cli.interrupt import stoppable
from qxmix.cli.progress import shown
from qxmix.execute.verify import verify
from qxmix.report.result import verification_json, verification_text

if TYPE_CHECKING:
    from qxmix.container.model import ModelHeader
    from qxmix.execute.result import OnProgress
    from qxmix.execute.verify import Verification
    from qxmix.plan import Plan


@click.command("verify")
@click.argument("output", type=NAME)
@click.option("--source", type=NAME, help="The model it was made from: make tensors again.")
@click.option("--imatrix", type=NAME, help="The importance matrix it was made with.")
@click.option("--moments", type=NAME, help="The moments it was made with.")
@click.option(
    "--lattice", type=FILE, help="With --source: what `inspect --lattice` found; which whole numbers are lost."
)
@click.option("every", "--all", is_flag=True, help="Make everything again, not one piece of each tensor.")
@jobs_option
@click.option("--executor", default="threads", show_default=True, help="As for apply.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object (schemas/verify.schema.json).")
@click.pass_context
def command(
    ctx: click.Context, output: str, source: str | None, imatrix: str | None, moments: str | None,
    lattice: Path | None, jobs: int | None, executor: str,
    *, every: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check OUTPUT, written by `qxmix apply`, against the digests it carries.

    With --source the recipe in it is applied again to one piece of each tensor (--all: to everything) and the bytes are
    compared.  With --lattice L.json, too, every weight of tensors that were integers once is held against the model's.
    """
    if (imatrix or moments or every) and source is None:
        raise click.UsageError(
            "--imatrix, --moments and --all say how to make tensors again, which needs --source MODEL"
        )
    if lattice is not None and source is None:
        raise click.UsageError("--lattice compares with the model's weights, which needs --source MODEL")
    header, model = open_model(output), open_model(source) if source else None
    parting = "Interrupted; not everything was compared."
    with stoppable(lambda: parting), shown() as on_progress:
        found = verify(
            header, model, imatrix, moments, every=every, n_workers=jobs, executor=executor, on_progress=on_progress
        )
        if lattice is not None and found.plan is not None:
            found = _with_lattices(found, header, found.plan, lattice, jobs, on_progress)
    if as_json:
        click.echo(json.dumps(verification_json(found), indent=1))
    else:
        click.echo(verification_text(found, terminal=sys.stdout.isatty()))
    ctx.exit(1 if found.problems else 0)


def _with_lattices(
    found: Verification, output: ModelHeader, plan: Plan, path: Path, jobs: int | None, on_progress: OnProgress
) -> Verification:
    from qxmix.measure.kept import kept_of, problems_of  # noqa: PLC0415 - most verifications need neither
    from qxmix.measurement.lattice import load_lattices  # noqa: PLC0415

    kept = kept_of(output, plan, path, load_lattices(path, plan.header), jobs, on_progress)
    return found._replace(lattices=kept, problems=(*found.problems, *problems_of(kept)))
