"""Standard streams that are closed, full or gone: no reason to end hours of work."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, TextIO

import click
import click.utils

from qxmix.errors import RunError


def open_missing() -> None:
    """Open streams that the process was started without, lowest first.

    Their numbers would otherwise go to the next files that are opened, a model's among them.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere("r" if name == "stdin" else "w"))


def take_any_text() -> None:
    """Have standard streams write whatever is printed: a name of the user's, an arrow, a box.

    Windows redirects in an encoding of the region, which has 256 characters.  What goes into a file or a pipe is
    UTF-8 instead, which recipes and JSON are, unless ``PYTHONIOENCODING`` says otherwise; a terminal gets what it has.
    """
    chosen = "PYTHONIOENCODING" in os.environ
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower().replace("_", "-") not in {"utf-8", "utf8"}:
            if stream.isatty() or chosen:
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def notice(text: str) -> None:
    """Write a line to standard error; once that fails, nothing is written there any more."""
    try:
        click.echo(text, err=True)
    except OSError:
        # Replaced, since Python would try to write the rest at its end and change the exit code if it cannot.
        sys.stderr = _nowhere("w")


def write_text(text: str, output: Path | None) -> None:
    """Write a text as it is to a file, or to standard output.

    Raises:
        RunError: the file cannot be written.

    """
    if output is None:
        click.echo(text, nl=False)
        return
    from qxmix.container.whole_file import write_whole  # noqa: PLC0415 - for those who write one

    with RunError.of_system(output, "cannot be written"):
        write_whole(output, text)


def came_from_output(error: OSError) -> bool:
    """Whether an error came up in a write to standard output: every one is a call of ``click.echo``."""
    from traceback import walk_tb  # noqa: PLC0415 - for what goes wrong

    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") == click.utils.__name__


def drop_output() -> None:
    """Write nothing to standard output any more, after a write failed."""
    sys.stdout = _nowhere("w")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")
