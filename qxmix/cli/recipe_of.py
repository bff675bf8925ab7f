"""``qxmix recipe-of``: the recipe an output was made with."""

from __future__ import annotations

import click

from qxmix.cli.inputs import NAME, open_model
from qxmix.execute.verify import recipe_of


@click.command("recipe-of")
@click.argument("model", type=NAME)
def command(model: str) -> None:
    """Print the recipe that MODEL, an output of `qxmix apply`, was made with.

    What it extends is in it, so that the text is a recipe file by itself.
    """
    click.echo(recipe_of(open_model(model)).text, nl=False)
