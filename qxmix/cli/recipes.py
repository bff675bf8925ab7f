"""``qxmix recipes``: the recipes that come with qxmix, and the text of each."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import groupby

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
from qxmix.running.model import Running, Use
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
    recipes = [_Listed(n, r, _sized(r, view, use) if view is not None else None) for n, r in wanted]
    if max_size is not None:
        recipes = [r for r in recipes if r.fits(max_size)]
    if as_json:
        click.echo(json.dumps([r.json() for r in recipes], indent=1))
        return
    terminal = sys.stdout.isatty()
    if view is None:
        text = _by_folder(recipes, terminal=terminal)
    else:
        sized = [(r, r.size) for r in recipes if r.size is not None]
        text = _sized_table(sized, terminal=terminal) if sized else "No recipe does."
    click.echo(f"{text}\n\n{wrapped(_USE, terminal=terminal)}")


def _text(name: str) -> bytes:
    with RecipeError.of_system(name, "cannot be read"):
        return shipped_path(name).read_bytes()


def _needs_imatrix(recipe: Recipe) -> bool:
    """Whether it names a type that cannot be encoded without, or that the engine refuses so."""
    names = {recipe.default, *(t for rule in recipe.rules for t in (rule.type, *(s.type for s in rule.adjust)))}
    types = [known for name in names if (known := find(name)) is not None]
    return any(t.importance == "required" or set(t.demanded_by) & set(recipe.engines) for t in types)


@dataclass(frozen=True, slots=True)
class _Size:
    """What a recipe makes of the model."""

    nbytes: int | None
    """Of the files; None where plan would refuse it."""
    bpw: float | None
    refused: tuple[str, ...]
    """Ids of the problems that it would be refused for."""
    running: Running | None
    """What running that takes, if it was asked for."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A recipe of the list."""

    name: str
    recipe: Recipe
    size: _Size | None
    """None without a model."""

    @property
    def description(self) -> str:
        return " ".join(self.recipe.description.split())

    def fits(self, max_size: int) -> bool:
        return self.size is not None and self.size.nbytes is not None and self.size.nbytes <= max_size

    def json(self) -> dict[str, object]:
        """As ``schemas/recipes.schema.json`` says."""
        facts: dict[str, object] = {
            "name": self.name, "description": self.description, "target": self.recipe.target,
            "default": self.recipe.default, "needs_imatrix": _needs_imatrix(self.recipe), "path": str(self.recipe.path),
        }  # fmt: skip
        if self.size is not None:
            facts |= {"nbytes": self.size.nbytes, "bpw": self.size.bpw, "refused": list(self.size.refused)}
            if self.size.running is not None:
                facts["running"] = running_json(self.size.running)
        return facts


def _sized(recipe: Recipe, view: ModelView, use: Use | None) -> _Size:
    found = outline(recipe, view)
    if found.refused:
        return _Size(None, None, tuple(found.refused), None)
    if use is None:
        return _Size(found.nbytes, found.bpw, (), None)
    takes = running(view.header, nbytes_of(found, view.header), use._replace(engine=recipe.engines[0]))
    return _Size(found.nbytes, found.bpw, (), takes)


def _by_folder(recipes: list[_Listed], *, terminal: bool) -> str:
    folders = groupby(recipes, key=lambda r: r.name.partition("/")[0])
    return "\n\n".join(_folder_table(f"{name}/", list(members), terminal=terminal) for name, members in folders)


def _folder_table(title: str, recipes: list[_Listed], *, terminal: bool) -> str:
    rows = [(r.name, r.recipe.target, r.recipe.default, r.description) for r in recipes]
    return table((title, "?target", "default", "description"), rows, terminal=terminal)


def _sized_table(recipes: list[tuple[_Listed, _Size]], *, terminal: bool) -> str:
    """Smallest first; those that plan refuses have no size and come last."""
    recipes = sorted(recipes, key=lambda r: (r[1].nbytes is None, r[1].nbytes or 0))
    runs = any(size.running is not None for _, size in recipes)
    rows = [
        (
            r.name,
            *_size_cells(size),
            *(summary(size.running) if runs else ()),
            r.recipe.target,
            "needed" if _needs_imatrix(r.recipe) else "",
            r.description,
        )
        for r, size in recipes
    ]
    titles = ("recipe", ">size", ">bpw", *(SUMMARY if runs else ()), "?target", "?imatrix", "?description")
    return table(titles, rows, terminal=terminal)


def _size_cells(size: _Size) -> tuple[str, str]:
    if size.nbytes is not None:
        return human_nbytes(size.nbytes), f"{size.bpw:.3f}"
    return ("does not fit" if "fallback-error" in size.refused else f"refused: {size.refused[0]}"), ""
