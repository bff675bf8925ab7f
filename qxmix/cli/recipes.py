"""``qxmix recipes``: the recipes that come with qxmix, and the text of each."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from qxmix.cli.inputs import open_model
from qxmix.errors import Problem, RecipeError
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe, shipped_names, shipped_path
from qxmix.report.text import human_nbytes, table, wrapped

if TYPE_CHECKING:
    from qxmix.container.model import ModelHeader

_USE = (
    "'qxmix recipes NAME' prints one, to start your own from; 'qxmix plan NAME MODEL' shows what it makes of a model."
)


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--model", type=click.Path(path_type=str), help="Sizes that the recipes would give this model.")
@click.option("as_json", "--json", is_flag=True, help="Print the list as JSON.")
def command(name: str | None, model: str | None, *, as_json: bool) -> None:
    """List the recipes that come with qxmix, or print the one called NAME.

    NAME is a recipe like llama.cpp/q4_k_m, whose file is printed as it is (qxmix recipes llama.cpp/q4_k_m > my.yaml),
    or a folder like pure, of which only the recipes are listed.  With --model they are planned, smallest first.
    """
    names = shipped_names()
    chosen = names if name is None else [n for n in names if n.partition("/")[0] == name.rstrip("/").lower()]
    if not chosen and name is not None:
        if as_json or model is not None:
            raise click.UsageError(f"--json and --model are for the list; {name} is no folder of recipes")
        click.echo(_text(name), nl=False)
        return
    header = open_model(model) if model is not None else None
    recipes = [_facts(n, header) for n in chosen]
    if as_json:
        click.echo(json.dumps(recipes, indent=1))
        return
    terminal = sys.stdout.isatty()
    for folder, members in groupby(recipes, key=lambda r: r["name"].partition("/")[0]):
        click.echo(_folder_table(f"{folder}/", list(members), sized=header is not None, terminal=terminal) + "\n")
    click.echo(wrapped(_USE, terminal=terminal))


def _text(name: str) -> bytes:
    try:
        return shipped_path(name).read_bytes()
    except OSError as error:
        raise RecipeError(Problem(name, f"cannot be read: {error.strerror or error}")) from None


def _facts(name: str, header: ModelHeader | None) -> dict[str, Any]:
    recipe = load_recipe(shipped_path(name))
    facts: dict[str, Any] = {
        "name": name, "description": " ".join(recipe.description.split()), "target": recipe.target,
        "default": recipe.default, "path": str(recipe.path),
    }  # fmt: skip
    if header is not None:
        plan = make_plan(recipe, header)
        decided = all(p.id != "fallback-error" for p in plan.problems)
        facts |= {"nbytes": plan.file_nbytes if decided else None, "bpw": plan.bpw if decided else None}
    return facts


def _folder_table(title: str, recipes: list[dict[str, Any]], *, sized: bool, terminal: bool) -> str:
    rows: list[tuple[str, ...]]
    if not sized:
        rows = [(r["name"], r["target"], r["default"], r["description"]) for r in recipes]
        return table((title, "?target", "default", "description"), rows, terminal=terminal)
    # Those whose types do not fit the model, and have no fallback, come last.
    recipes = sorted(recipes, key=lambda r: (r["nbytes"] is None, r["nbytes"] or 0))
    rows = [(r["name"], *_size(r["nbytes"], r["bpw"]), r["default"], r["description"]) for r in recipes]
    return table((title, ">size", ">bpw", "?default", "?description"), rows, terminal=terminal)


def _size(nbytes: int | None, bpw: float) -> tuple[str, str]:
    return ("does not fit", "") if nbytes is None else (human_nbytes(nbytes), f"{bpw:.3f}")
