"""``qxmix validate``: check recipes without a model."""

from __future__ import annotations

import sys
from itertools import chain

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import NAME, recipes_of
from qxmix.errors import RecipeError
from qxmix.recipe import load_recipe
from qxmix.report.text import wrapped


@click.command("validate")
@click.argument("recipes", metavar="RECIPE...", type=NAME, nargs=-1, required=True, shell_complete=complete_recipes)
@click.pass_context
def command(ctx: click.Context, recipes: tuple[str, ...]) -> None:
    """Check each RECIPE (a file, a folder of them, or the name of a shipped one) and all it extends.

    Prints every problem of every recipe; exit code 2 if there is one.
    """
    bad = n_problems = 0
    names = tuple(chain.from_iterable(map(recipes_of, recipes)))
    for name in names:
        try:
            recipe = load_recipe(name, validated=True)
        except RecipeError as error:
            bad += 1
            n_problems += len(error.problems)
            for problem in error.problems:
                click.echo(wrapped(f"Error: {problem}", terminal=sys.stderr.isatty()), err=True)
        else:
            rules = f"{len(recipe.rules)} {'rule' if len(recipe.rules) == 1 else 'rules'}"
            click.echo(f"{name}: valid, {rules}, default {recipe.default}, target {recipe.target}")
    if n_problems > 1 or (bad and len(names) > 1):
        of = f" in {bad} of {len(names)} recipes" if len(names) > 1 else ""
        click.echo(f"{n_problems:,} {'error' if n_problems == 1 else 'errors'}{of}", err=True)
    ctx.exit(RecipeError.exit_code if bad else 0)
