"""``qxmix recipes``: the recipes that come with qxmix, and the text of each."""

from __future__ import annotations

import json
import sys
from itertools import groupby

import click

from qxmix.errors import Problem, RecipeError
from qxmix.recipe import load_recipe, shipped_names, shipped_path
from qxmix.report.text import table, wrapped

_USE = (
    "'qxmix recipes NAME' prints one, to start your own from; 'qxmix plan NAME MODEL' shows what it makes of a model."
)


@click.command("recipes")
@click.argument("name", required=False)
@click.option("as_json", "--json", is_flag=True, help="Print the list as JSON.")
def command(name: str | None, *, as_json: bool) -> None:
    """List the recipes that come with qxmix, or print the one called NAME.

    NAME is a recipe like llama.cpp/q4_k_m, whose file is printed as it is (qxmix recipes llama.cpp/q4_k_m > my.yaml),
    or a folder like pure, of which only the recipes are listed.
    """
    names = shipped_names()
    chosen = names if name is None else [n for n in names if n.partition("/")[0] == name.rstrip("/")]
    if not chosen and name is not None:
        if as_json:
            raise click.UsageError("--json lists recipes; the file of one is YAML")
        click.echo(_text(name), nl=False)
        return
    recipes = [_facts(n) for n in chosen]
    if as_json:
        click.echo(json.dumps(recipes, indent=1))
        return
    terminal = sys.stdout.isatty()
    for folder, members in groupby(recipes, key=lambda r: r["name"].partition("/")[0]):
        rows = [(r["name"], r["target"], r["default"], r["description"]) for r in members]
        click.echo(table((f"{folder}/", "?target", "default", "description"), rows, terminal=terminal) + "\n")
    click.echo(wrapped(_USE, terminal=terminal))


def _text(name: str) -> bytes:
    try:
        return shipped_path(name).read_bytes()
    except OSError as error:
        raise RecipeError(Problem(name, f"cannot be read: {error.strerror or error}")) from None


def _facts(name: str) -> dict[str, str]:
    recipe = load_recipe(shipped_path(name))
    description = " ".join(recipe.description.split())
    return {
        "name": name, "description": description, "target": recipe.target, "default": recipe.default,
        "path": str(recipe.path),
    }  # fmt: skip
