"""Arguments and options that commands share, and models, in place of which a recipe is told what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from qxmix import shells
from qxmix.cli.overwriting import (
    Kind,
    check_place,
    note_path,
    refuse_dash,
    refuse_foreign,
    refuse_kept,
    refuse_precious,
    shown,
)
from qxmix.container.header import read_header
from qxmix.container.model import ModelHeader
from qxmix.container.recognize import HEAD_NBYTES, looks_like_recipe
from qxmix.container.remote.address import is_remote
from qxmix.errors import ModelFileError, Problem, QxmixError, RecipeError
from qxmix.quants import ENGINES

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix
    from qxmix.container.moments import Moments
    from qxmix.measurement.model import Measurement
    from qxmix.recipe.model import Recipe


class _Name(click.Path):
    """A path that somebody named: an empty one comes of a script whose variable is not set, and would be none."""

    written = False

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Make it a path."""
        if os.fspath(value) == "":
            self.fail("the name is empty, as of a variable that is not set; give one, or leave this out", param, ctx)
        note_path(os.fspath(value), param, ctx, written=self.written)
        return super().convert(value, param, ctx)


class _Written(_Name):
    """A path that is written, and so none that the command reads; whether it may be is told before any work."""

    written = True
    printed = False
    """Whether the command writes to standard output where none is given."""

    def __init__(self, *, makes_folder: bool = False) -> None:
        super().__init__(path_type=Path)
        self._makes_folder = makes_folder

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Make it a path."""
        path = super().convert(value, param, ctx)
        if ctx is not None and not ctx.resilient_parsing:
            refuse_dash(os.fspath(value), shown(param), printed=self.printed)
            check_place(os.fspath(value), shown(param), makes_folder=self._makes_folder)
            self.refuse(os.fspath(value), param, ctx)
        return path

    def refuse(self, path: str, param: click.Parameter | None, ctx: click.Context) -> None:
        """Refuse a file that may not be replaced."""
        refuse_kept(path, param, ctx)


class _Text(_Written):
    """A path that a text is written to, and so neither a model nor, if the text is none, a recipe."""

    def __init__(self, *, recipe: bool = False) -> None:
        super().__init__()
        self._recipe = self.printed = recipe

    def refuse(self, path: str, param: click.Parameter | None, ctx: click.Context) -> None:
        """Refuse a file that may not be replaced, or that is of another kind."""
        refuse_precious(path, param, recipe=self._recipe)
        refuse_kept(path, param, ctx)


class Beside(_Written):
    """A path of what is made by each run anew, and so may replace what an earlier one made."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind

    def refuse(self, path: str, param: click.Parameter | None, ctx: click.Context) -> None:  # noqa: ARG002
        """Refuse a file of another kind."""
        refuse_precious(path, param, recipe=False)
        refuse_foreign(path, param, self._kind)


FILE = _Name(path_type=Path)
OUTPUT = _Written()
OUTPUT_IN_FOLDER = _Written(makes_folder=True)
TEXT = _Text()
RECIPE = _Text(recipe=True)
NAME = _Name(path_type=str)
"""A file's name that may be something else: an address, or what a shipped recipe is called."""

imatrix_option = click.option("--imatrix", type=NAME, help="Importance matrix, .dat or GGUF.")
moments_option = click.option("--moments", type=NAME, help="Second moments, for 'feedback' in the recipe.")
jobs_option = click.option("-j", "--jobs", type=click.IntRange(min=1), help="Workers. Default: one per processor.")
THREADS = click.IntRange(min=1, max=512)
"""Threads of an engine, as many as its ``GGML_MAX_N_THREADS`` at most: of more it dies."""
threads_option = click.option("-j", "--threads", type=THREADS, help="Threads of the engine.  [default: all processors]")


class EngineName(click.Choice[str]):
    """An engine by the name that recipes have for it, or a shorter one."""

    SHORT: ClassVar = {"ik": "ik_llama.cpp", "llama": "llama.cpp", "llama-quantize": "llama.cpp"}

    def __init__(self, *more: str) -> None:
        super().__init__([*ENGINES, *more])

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """One of the choices."""
        return super().convert(self.SHORT.get(str(value), value), param, ctx)


def open_model(path: str | Path) -> ModelHeader:
    """The header of a model: a file, a first shard or an address.

    Raises:
        ModelFileError: it is none; of a recipe, what to do with it.

    """
    if not is_remote(path):
        refuse_recipe(path)
    return read_header(path)


def open_recipes(names: Sequence[str]) -> tuple[tuple[Recipe, ...], bool]:
    """Recipes by file, by folder or by the name of a shipped one, and whether several may be meant.

    Raises:
        RecipeError: of all that are invalid at once.
        QxmixError: a folder has none.

    """
    from qxmix.recipe import load_recipe  # noqa: PLC0415 - the YAML parser, which `inspect` does without

    found: list[Recipe] = []
    problems: list[Problem] = []
    for name in chain.from_iterable(map(recipes_of, names)):
        try:
            found.append(load_recipe(name))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return tuple(found), len(names) > 1 or Path(names[0]).is_dir()


def recipes_of(name: str) -> Sequence[str | Path]:
    """The recipes in a folder; anything else is one by itself."""
    if not os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        return (name,)
    from qxmix.check import find_recipes  # noqa: PLC0415 - as above

    recipes = find_recipes((Path(name),))
    if not recipes:
        raise QxmixError.at(name, "there is no recipe in this folder: a .yaml file that begins with 'qxmix: 1'")
    return recipes


def open_measurement(path: Path, header: ModelHeader, imatrix: Imatrix | None) -> Measurement:
    """A measurement of this model with this importance matrix.

    Raises:
        ModelFileError: it is none, or of others.

    """
    from qxmix.measurement.file import check_belongs, load_measurement  # noqa: PLC0415 - for those who have one

    measurement = load_measurement(path)
    check_belongs(measurement, path, header, imatrix)
    return measurement


def read_text(path: Path) -> bytes:
    """The bytes of a text.

    Raises:
        ModelFileError: it cannot be read.

    """
    with ModelFileError.of_system(path, "the text cannot be read"):
        return path.read_bytes()


def open_moments(path: str | None) -> Moments | None:
    """The moments' file, if one is given."""
    if not path:
        return None
    from qxmix.container.moments_load import load_moments  # noqa: PLC0415 - for those who have some

    return load_moments(path)


def refuse_recipe(path: str | Path) -> None:
    """Let pass whatever is not a recipe.

    Raises:
        ModelFileError: it is a recipe, a file or a shipped one.

    """
    text = str(path)
    try:
        with Path(text).open("rb") as file:
            if not looks_like_recipe(Path(text), file.read(HEAD_NBYTES)):
                return
        kind, look = "recipe", f"qxmix validate {shells.quoted(text)}"
    except (OSError, ValueError):
        if not _is_shipped(text):
            return
        kind, look = "shipped recipe", f"qxmix recipes {text}"
    use = f"qxmix plan {shells.quoted(text)} MODEL"
    does = "checks" if kind == "recipe" else "prints"
    told = f"is a {kind}, not a model; '{look}' {does} it, '{use}' shows what it makes of a model"
    raise ModelFileError.at(text, told)


def _is_shipped(text: str) -> bool:
    # Only when there is no such file: the language with its YAML parser is a third of what `inspect` takes.
    from qxmix.recipe import shipped_path  # noqa: PLC0415

    try:
        shipped_path(text)
    except RecipeError:
        return False
    return True
