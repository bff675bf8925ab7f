"""Inputs that can be read only once: standard input, pipes, ``<(git show HEAD:r.yaml)``."""

from __future__ import annotations

import stat
import sys
from functools import cache
from pathlib import Path

LARGEST = 256 << 20
"""Most bytes that are held of one; the plan of a 1,000-tensor model has half a MB as JSON."""


@cache
def stream_of(text: str) -> bytes | None:
    """The content of an input that is no file; None for a file, or where there is nothing.

    What was read is kept for the process, so that whoever looks what an input is leaves it to whoever uses it.

    Args:
        text: As the user gave it; ``-`` is standard input.

    Raises:
        OSError: it cannot be read.

    """
    if text == "-":
        return sys.stdin.buffer.read(LARGEST)
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
        return None
    with Path(text).open("rb") as stream:
        return stream.read(LARGEST)
