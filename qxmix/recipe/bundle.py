"""A recipe with all that it extends as one text, which can be loaded again anywhere.

A recipe that extends nothing is its own text.  Otherwise each file is a document of its own, the recipe first, under a
line that numbers it and says which documents its ``extends`` names, in order; no path of the machine is in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEAD = r"# qxmix recipe, file (\d+) of (\d+)(?:, extends ([\d ]+))?(, no last newline)?\n"
_FIRST = re.compile(_HEAD)
_NEXT = re.compile(r"^---\n(?=# qxmix recipe, file \d)", re.MULTILINE)


def join(texts: Sequence[str], extended: Sequence[Sequence[int]]) -> str:
    """One text of several files.

    Args:
        texts: The files, the recipe itself first.
        extended: For each the indices of what it extends, in order.

    """
    if len(texts) == 1:
        return texts[0]
    parts = []
    for i, (text, indices) in enumerate(zip(texts, extended, strict=True)):
        names = f", extends {' '.join(str(k + 1) for k in indices)}" if indices else ""
        # The next document must start on a line of its own, and each come back to the byte.
        bare = "" if text.endswith("\n") else ", no last newline"
        head = f"# qxmix recipe, file {i + 1} of {len(texts)}{names}{bare}\n"
        parts.append(head + text + ("\n" if bare else ""))
    return "---\n".join(parts)


def split(text: str) -> list[tuple[str, list[int]]] | None:
    """The files of such a text, each with the indices of what it extends; None for a recipe that is one file.

    Indices that no file has are left out: the recipe then lacks what it extends, which is told as such.
    """
    if _FIRST.match(text) is None:
        return None
    parts = _NEXT.split(text)
    found = []
    for part in parts:
        head = _FIRST.match(part)
        assert head is not None, "every part starts where this line was seen"
        indices = [int(word) - 1 for word in (head[3] or "").split()]
        body = part[head.end() :].removesuffix("\n" if head[4] else "")
        found.append((body, [i for i in indices if 0 <= i < len(parts)]))
    return found
