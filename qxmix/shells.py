"""Commands as they are typed into the shell that there is, for messages that tell what to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from qxmix import system

MAKE_FOLDERS = "mkdir" if system.WINDOWS else "mkdir -p"
"""The shell's command that makes a folder and those it is in."""
_PLAIN = re.compile(r"[\w.\\/:=+-][\w.\\/:=+~-]*")
"""What neither ``cmd`` nor PowerShell takes for anything else."""


def quoted(word: str) -> str:
    """A word as the shell takes it: in double quotes on Windows, the only ones that both of its shells know."""
    if not system.WINDOWS:
        return shlex.quote(word)
    if _PLAIN.fullmatch(word):
        return word
    # The program itself takes its line apart: there a backslash is one unless a quote follows.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def command_line(words: Iterable[str]) -> str:
    """A command as it is typed."""
    return " ".join(map(quoted, words))


def command_lines(lines: Iterable[str]) -> str:
    """A command of several lines; of one where the shells have nothing in common that goes on with another."""
    return " ".join(map(str.strip, lines)) if system.WINDOWS else " \\\n".join(lines)
