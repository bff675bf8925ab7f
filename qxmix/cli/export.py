"""``qxmix export``: a recipe as a command line of an engine's own quantizer."""

from __future__ import annotations

from pathlib import Path

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import NAME, TEXT, EngineName, imatrix_option, open_model
from qxmix.cli.overwriting import overwrite_option
from qxmix.cli.streams import write_text
from qxmix.container.imatrix_load import load_imatrix
from qxmix.dialects.export import export
from qxmix.plan import make_plan
from qxmix.quants import Engine
from qxmix.recipe import load_recipe


@click.command("export")
@click.argument("recipe", type=NAME, shell_complete=complete_recipes)
@click.argument("model", type=NAME)
@click.option(
    "--to", "engine", required=True, type=EngineName(), help="Whose llama-quantize; ik is short for the second."
)
@imatrix_option
@click.option("-o", "--output", type=TEXT, help="Write the --tensor-type-file here.")
@overwrite_option()
def command(recipe: str, model: str, engine: Engine, imatrix: str | None, output: Path | None) -> None:
    """Print a llama-quantize command line that gives every tensor of MODEL the type that RECIPE does.

    It is proved under the engine's own rules of matching before it is printed; what the engine cannot be told is an
    error that names it.  Exit code 3.
    """
    if output is not None and engine == "ik_llama.cpp":
        raise click.UsageError("ik_llama.cpp reads no file of types; leave out -o")
    loaded = load_recipe(recipe)
    plan = make_plan(loaded, open_model(model), load_imatrix(imatrix) if imatrix else None)
    exported = export(plan, engine)
    if output is not None:
        write_text(exported.list_text(), output)
    result = f"{Path(model).stem}-{loaded.name}.gguf"
    click.echo(exported.command(model, result, imatrix, str(output) if output else None))
    for note in exported.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"Proved: all {len(plan.tensors):,} tensors get the type that the plan gives", err=True)
