"""What a command writes must not take the place of what it reads, nor of a model or recipe that it was not asked for.

Every path that an option or argument names is looked at as it is parsed, before any work.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import click

from qxmix.container.recognize import HEAD_NBYTES, looks_like_recipe
from qxmix.container.source import show_path
from qxmix.errors import RunError

_PATHS = "qxmix.paths"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)


class _Named(NamedTuple):
    """A path of the command line."""

    path: str
    by: str
    """The option or argument that names it."""
    written: bool


def note_path(path: str, param: click.Parameter | None, ctx: click.Context | None, *, written: bool) -> None:
    """Hold a path against those that were named before.

    Raises:
        RunError: one of the two is written and is the other.

    """
    if ctx is None or param is None or ctx.resilient_parsing:
        return
    new = _Named(path, shown(param), written)
    others: list[_Named] = ctx.meta.setdefault(_PATHS, [])
    for old in others:
        if (old.written or new.written) and _same(old.path, new.path):
            raise RunError.at(show_path(path), _told(old, new))
    others.append(new)


def check_place(path: str, by: str) -> None:
    """Let pass a name where a file can be written: before work that may take hours.

    Args:
        path: What is to be written.
        by: The option that names it.

    Raises:
        RunError: it is a folder's, lies in none, or in one that may not be written to.

    """
    from qxmix.container.whole_file import missing_folder  # noqa: PLC0415 - for those who write one

    # Not Path.is_dir and the like, which raise where a name is too long.
    if os.path.isdir(path):  # noqa: PTH112
        raise RunError.at(show_path(path), f"is a folder; give {by} the name of a file")
    if missing := missing_folder(Path(path)):
        raise RunError.at(show_path(path), missing)
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120
    if not os.access(path, os.W_OK) and not os.access(folder, os.W_OK | os.X_OK):
        raise RunError.at(show_path(folder), f"may not be written to; give {by} another name")


def refuse_precious(path: str, param: click.Parameter | None, *, recipe: bool) -> None:
    """Let pass a file that a text may take the place of.

    Args:
        path: What is to be written.
        param: Who names it.
        recipe: Whether the text is a recipe, which may replace one.

    Raises:
        RunError: it is a GGUF file, or a recipe.

    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        return
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_NBYTES)
    except OSError:
        return  # who writes it tells
    kind = "a GGUF file" if head.startswith(b"GGUF") else "a recipe" if looks_like_recipe(Path(path), head) else ""
    if kind and not (recipe and kind == "a recipe"):
        by = shown(param)
        raise RunError.at(show_path(path), f"is {kind}, which would be lost; give {by} another name")


def _told(old: _Named, new: _Named) -> str:
    if old.written and new.written:
        return f"would be written by {old.by} and by {new.by}; give two names"
    read, written = (new, old) if old.written else (old, new)
    return f"is what {read.by} names, and would be destroyed; give {written.by} another name"


def shown(param: click.Parameter | None) -> str:
    """``--lock``, ``-o``, or ``MODEL``."""
    if param is None:
        return "it"
    return param.human_readable_name if isinstance(param, click.Argument) else param.opts[0]


def _same(first: str, second: str) -> bool:
    """Whether two names are one file, by device and inode if it is there, or two shards of one model."""
    if os.path.isfile(first) and os.path.isfile(second) and os.path.samefile(first, second):  # noqa: PTH113, PTH121
        return True
    first, second = os.path.realpath(first), os.path.realpath(second)
    # /dev/null may be named twice.
    return (first == second and not os.path.exists(first)) or _model(first) == _model(second) != ""  # noqa: PTH110


def _model(path: str) -> str | tuple[str, ...]:
    """What shards of one model have in common; empty for other names."""
    match = _SHARD.fullmatch(path)
    return match.groups() if match else ""
