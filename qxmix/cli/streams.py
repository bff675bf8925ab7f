"""Standard streams that are closed, full or gone: no reason to end hours of work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from typing import TextIO


def open_missing() -> None:
    """Open streams that the process was started without, lowest first.

    Their numbers would otherwise go to the next files that are opened, a model's among them.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere("r" if name == "stdin" else "w"))


def notice(text: str) -> None:
    """Write a line to standard error; once that fails, nothing is written there any more."""
    try:
        click.echo(text, err=True)
    except OSError:
        # Replaced, since Python would try to write the rest at its end and change the exit code if it cannot.
        sys.stderr = _nowhere("w")


def drop_output() -> None:
    """Write nothing to standard output any more, after a write failed."""
    sys.stdout = _nowhere("w")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")
