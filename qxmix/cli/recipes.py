"""``qxmix recipes``: the recipes that come with qxmix, and the text of each."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from typing import Any

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import NAME, EngineName, open_model
from qxmix.cli.running import Machine, running_options
from qxmix.cli.sizes import SIZE
from qxmix.errors import RecipeError
from qxmix.planning.outline import nbytes_of, outline
from qxmix.planning.view import ModelView
from qxmix.quants import find
from qxmix.recipe import Recipe, load_recipe, shipped_names, shipped_path
from qxmix.report.running import SUMMARY, running_json, summary
from qxmix.report.text import human_nbytes, table, wrapped
from qxmix.running.model import Use
from qxmix.running.place import running

_USE = (
    "'qxmix recipes NAME' prints one, to start your own from; 'qxmix plan NAME MODEL' shows what it makes of a model."
)


@click.command("recipes")
@click.argument("name", required=False, shell_complete=complete_recipes)
@click.option("--model", type=NAME, help="Sizes that the recipes would give this model.")
@click.option("--max-size", type=SIZE, help="Only those that give the model no more than this: 24GB, 20GiB.")
@click.option("--target", type=EngineName("any"), help="Only those for this engine, or for both (any).")
@click.option("--needs-imatrix/--no-imatrix", "needs", default=None, help="Only those that need an imatrix, or do not.")
@click.option("as_json", "--json", is_flag=True, help="Print the list as JSON (schemas/recipes.schema.json).")
@running_options
def command(
    name: str | None, model: str | None, max_size: int | None, target: str | None, machine: Machine,
    *, needs: bool | None, as_json: bool,
) -> None:  # fmt: skip
    """List the recipes that come with qxmix, or print the one called NAME.

    NAME is a recipe like llama.cpp/q4_k_m, whose file is printed as it is (qxmix recipes llama.cpp/q4_k_m > my.yaml),
    or a folder like pure, of which only the recipes are listed.  With --model they are planned, smallest first, and
    those that plan would refuse come last; with --ctx, too, what running them takes.
    """
    use = machine.use("llama.cpp")
    if use and model is None:
        raise click.UsageError("--ctx is about running a model; give it as --model MODEL")
    if max_size is not None and model is None:
        raise click.UsageError("--max-size is about the output of a model; give it as --model MODEL")
    names = shipped_names()
    chosen = names if name is None else [n for n in names if n.partition("/")[0] == name.rstrip("/").lower()]
    if not chosen and name is not None:
        if as_json or model is not None:
            raise click.UsageError(f"--json and --model are for the list; {name} is no folder of recipes")
        click.echo(_text(name), nl=False)
        return
    view = ModelView(open_model(model)) if model is not None else None
    loaded = [load_recipe(shipped_path(n)) for n in chosen]
    wanted = [
        (n, r)
        for n, r in zip(chosen, loaded, strict=True)
        if (target is None or r.target in (target, "any")) and (needs is None or _needs_imatrix(r) == needs)
    ]
    recipes = [_facts(n, r, view, use) for n, r in wanted]
    if max_size is not None:
        recipes = [r for r in recipes if r["nbytes"] is not None and r["nbytes"] <= max_size]
    if as_json:
        click.echo(json.dumps([_plain(r) for r in recipes], indent=1))
        return
    terminal = sys.stdout.isatty()
    if view is None:
        text = _by_folder(recipes, terminal=terminal)
    else:
        text = _sized_table(recipes, terminal=terminal) if recipes else "No recipe does."
    click.echo(f"{text}\n\n{wrapped(_USE, terminal=terminal)}")


def _text(name: str) -> bytes:
    with RecipeError.of_system(name, "cannot be read"):
        return shipped_path(name).read_bytes()


def _needs_imatrix(recipe: Recipe) -> bool:
    """Whether it names a type that cannot be encoded without, or that the engine refuses so."""
    names = {recipe.default, *(t for rule in recipe.rules for t in (rule.type, *(s.type for s in rule.adjust)))}
    types = [known for name in names if (known := find(name)) is not None]
    return any(t.importance == "required" or set(t.demanded_by) & set(recipe.engines) for t in types)


def _facts(name: str, recipe: Recipe, view: ModelView | None, use: Use | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": name, "description": " ".join(recipe.description.split()), "target": recipe.target,
        "default": recipe.default, "needs_imatrix": _needs_imatrix(recipe), "path": str(recipe.path),
    }  # fmt: skip
    if view is not None:
        found = outline(recipe, view)
        fits = not found.refused
        facts |= {"nbytes": found.nbytes if fits else None, "bpw": found.bpw if fits else None}
        facts["refused"] = list(found.refused)
        if use and fits:
            nbytes = nbytes_of(found, view.header)
            facts["running"] = running(view.header, nbytes, use._replace(engine=recipe.engines[0]))
    return facts


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | ({"running": running_json(facts["running"])} if "running" in facts else {})


def _by_folder(recipes: list[dict[str, Any]], *, terminal: bool) -> str:
    folders = groupby(recipes, key=lambda r: r["name"].partition("/")[0])
    return "\n\n".join(_folder_table(f"{name}/", list(members), terminal=terminal) for name, members in folders)


def _folder_table(title: str, recipes: list[dict[str, Any]], *, terminal: bool) -> str:
    rows = [(r["name"], r["target"], r["default"], r["description"]) for r in recipes]
    return table((title, "?target", "default", "description"), rows, terminal=terminal)


def _sized_table(recipes: list[dict[str, Any]], *, terminal: bool) -> str:
    """Smallest first; those that plan refuses have no size and come last."""
    recipes = sorted(recipes, key=lambda r: (r["nbytes"] is None, r["nbytes"] or 0))
    runs = any("running" in r for r in recipes)
    rows = [
        (
            r["name"],
            *_size(r["nbytes"], r["bpw"], r["refused"]),
            *(summary(r.get("running")) if runs else ()),
            r["target"],
            "needed" if r["needs_imatrix"] else "",
            r["description"],
        )
        for r in recipes
    ]
    titles = ("recipe", ">size", ">bpw", *(SUMMARY if runs else ()), "?target", "?imatrix", "?description")
    return table(titles, rows, terminal=terminal)


def _size(nbytes: int | None, bpw: float, refused: list[str]) -> tuple[str, str]:
    if nbytes is not None:
        return human_nbytes(nbytes), f"{bpw:.3f}"
    return ("does not fit" if "fallback-error" in refused else f"refused: {refused[0]}"), ""
