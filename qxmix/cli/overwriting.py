"""What a command writes must not take the place of what it reads, nor of anything that it was not asked for.

One rule holds everywhere: a file that exists is replaced only with ``--overwrite``; what ``--lock``, ``--html``,
``--plot``, ``--card`` and ``--wheel`` ask for, which is made by each run anew, may also replace one that qxmix wrote.

Every path that an option or argument names is looked at as it is parsed, before any work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from qxmix import system
from qxmix.container.recognize import HEAD_NBYTES, looks_like_recipe
from qxmix.container.source import show_path
from qxmix.errors import RunError

_OVERWRITE = "qxmix.overwrite"
_RESUME = "qxmix.resume"
_TAIL_NBYTES = 1 << 16
"""Where a PDF says who made it is before the table of its objects."""
_PATHS = "qxmix.paths"
_C = TypeVar("_C", bound=Callable[..., Any])
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


def refuse_dash(path: str, by: str, *, printed: bool = False) -> None:
    """Let pass whatever is not the sign that other programs take for standard output.

    Args:
        path: What is to be written.
        by: The option that names it.
        printed: Whether the command writes to standard output without the option.

    Raises:
        RunError: it is a dash alone.

    """
    if path == "-":
        text = f"stands for standard output elsewhere and is no name here; give {by} the name of a file"
        raise RunError.at(path, f"{text}, or leave it out for standard output" if printed else text)


def check_place(path: str, by: str, *, makes_folder: bool = False) -> None:
    """Let pass a name where a file can be written: before work that may take hours.

    Args:
        path: What is to be written.
        by: The option that names it.
        makes_folder: Whether the command makes a folder that is not there.

    Raises:
        RunError: it is a dash, a folder's, lies in none, or in one that may not be written to.

    """
    refuse_dash(path, by)
    from qxmix.container.whole_file import missing_folder  # noqa: PLC0415 - for those who write one

    # Not Path.is_dir and the like, which raise where a name is too long.
    if os.path.isdir(path):  # noqa: PTH112
        raise RunError.at(show_path(path), f"is a folder; give {by} the name of a file")
    missing = missing_folder(Path(path))
    if missing and makes_folder:
        return
    if missing:
        raise RunError.at(show_path(path), missing)
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120
    if not os.access(path, os.W_OK) and not os.access(folder, os.W_OK | os.X_OK):
        raise RunError.at(show_path(folder), f"may not be written to; give {by} another name")


def overwrite_option(
    *,
    help: str = "Replace a file that exists.",  # noqa: A002 - as click calls it
    passed: bool = False,
) -> Callable[[_C], _C]:
    """The flag that lets ``-o`` name a file that exists; ``passed`` on to the command, too.

    It is eager, since paths are looked at as they are parsed.
    """

    def note(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's
        ctx.meta[_OVERWRITE] = value
        return value

    return click.option("--overwrite", is_flag=True, is_eager=True, expose_value=passed, callback=note, help=help)


def resume_option(*, help: str) -> Callable[[_C], _C]:  # noqa: A002 - as click calls it
    """The flag that goes on, or leaves what is complete; the command itself refuses another file of that name."""

    def note(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's
        ctx.meta[_RESUME] = value
        return value

    return click.option("--resume", is_flag=True, is_eager=True, callback=note, help=help)


def refuse_kept(path: str, param: click.Parameter | None, ctx: click.Context) -> None:
    """Let pass a name that no file has, or that of one that may go.

    Raises:
        RunError: there is a file, and nobody said that it may go.

    """
    from qxmix.container.whole_file import is_file_or_none  # noqa: PLC0415 - for those who write one

    may_stay = ctx.meta.get(_OVERWRITE) or ctx.meta.get(_RESUME)
    if not may_stay and os.path.exists(path) and is_file_or_none(Path(path)):  # noqa: PTH110
        text = f"exists already; give --overwrite to replace it, or {shown(param)} another name"
        raise RunError.at(show_path(path), text)


class Kind(NamedTuple):
    """What qxmix writes beside a result, again and again, and how it is told from what somebody else wrote."""

    name: str
    start: re.Pattern[bytes]
    mark: bytes = b""
    """What is near the start or the end of the file, too."""


LOCK = Kind("lock", re.compile(rb'\s*\{\s*"qxmix_lock"'))
PAGE = Kind("page", re.compile(rb"<!DOCTYPE html>"), b'name="generator" content="qxmix"')
PICTURE = Kind("picture", re.compile(rb"\x89PNG|%PDF|<\?xml"), b"qxmix")
CARD = Kind("card", re.compile(rb"\| name \| bytes \|"))
RESULTS = Kind("file of single results", re.compile(rb'\["[0-9a-f]{32}",'))


def refuse_foreign(path: str, param: click.Parameter | None, kind: Kind) -> None:
    """Let pass a name that no file has, or that of one of this kind.

    Raises:
        RunError: there is a file of another kind, which has something in it, or one that somebody else wrote.

    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        return
    try:
        with Path(path).open("rb") as file:
            head = file.read(_TAIL_NBYTES)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _TAIL_NBYTES))
            tail = file.read(_TAIL_NBYTES)
    except OSError:
        return  # who writes it tells
    if head and not (kind.start.match(head) and kind.mark in head + tail):
        told = f"is no {kind.name} that qxmix wrote, and would be lost; give {shown(param)} another name"
        raise RunError.at(show_path(path), told)


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
    is_one = not os.path.exists(first) and system.name_key(Path(first)) == system.name_key(Path(second))  # noqa: PTH110
    return is_one or _model(first) == _model(second) != ""


def _model(path: str) -> str | tuple[str, ...]:
    """What shards of one model have in common; empty for other names."""
    match = _SHARD.fullmatch(path)
    return match.groups() if match else ""
