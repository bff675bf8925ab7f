"""The texts of the package that tell a user to do something, read from its sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import qxmix

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERBS = [
    "write",
    "use",
    "run",
    "give",
    "choose",
    "add",
    "raise",
    "try",
    "put",
    "name",
    "quote",
    "anchor",
    "merge",
    "copy",
    "download",
    "convert",
    "leave",
    "drop",
    "start",
    "allow",
    "keep",
    "close",
    "say",
    "measure",
    "look",
    "see",
    "set",
    "move",
    "delete",
    "rename",
    "make",
    "load",
    "widen",
    "split",
    "shorten",
    "install",
    "pass",
    "free",
    "wait",
]
_ADVICE = re.compile(rf"(?:^|[;:,.(] |\b(?:or|and|then) )(?:{'|'.join(_VERBS)})\b", re.IGNORECASE)
_LEAST = 19
"""Characters; what is shorter is a key or a part of a word list."""


def advice() -> set[str]:
    """All texts with an imperative in them, as they stand in the sources, ``{}`` for what is put in.

    Docstrings and the help of options are no messages.
    """
    root = Path(qxmix.__file__).parent
    return {
        text.strip()
        for path in root.rglob("*.py")
        for text in _texts(ast.parse(path.read_text(encoding="utf-8")))
        if len(text) >= _LEAST and " " in text.strip() and _ADVICE.search(text)
    }


def _texts(tree: ast.Module) -> Iterator[str]:
    passed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            passed.update(ast.walk(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed.update(node.values)
    for node in ast.walk(tree):
        if node in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def pattern(text: str) -> re.Pattern[str]:
    """What finds a text in what is printed, wherever lines are broken."""
    return re.compile(r"\s+".join(".*?".join(map(re.escape, word.split("{}"))) for word in text.split()), re.DOTALL)
