"""Items ``pattern=type`` of a list or an option, with their comments and lines."""

from __future__ import annotations

import re

from qxmix.dialects.ecmascript import ecmascript_fault
from qxmix.dialects.model import SourceRule
from qxmix.errors import Problem, RecipeError
from qxmix.quants import QUANT_TYPES, Engine, find
from qxmix.recipe.patterns import pattern_error
from qxmix.recipe.remedies import near

_IK_CASE = re.compile(r"Q\d_K\Z|Q8_KV")
_ALIEN_GROUP = re.compile(r"(?<!\\)\(\?(?![:=!])")


def parse_items(
    text: str, name: str, line: int, engine: Engine, notes: list[str], *, lines: bool = True
) -> list[SourceRule]:
    """Parse ``pattern=type`` items.

    Args:
        text: The items, separated by commas and newlines (ik_llama.cpp) or white space (llama.cpp).
        name: The file, for messages.
        line: Where the text starts in it.
        engine: The engine whose list it is.
        notes: Grows by what the engine itself would not take.
        lines: False for the one item of a ``--tensor-type``, which may have spaces in it.

    Raises:
        RecipeError: an item has no type, an unknown one, or a pattern that does not compile; all of them at once.

    """
    rules: list[SourceRule] = []
    problems: list[Problem] = []
    comments: list[str] = []
    for number, row in enumerate(text.split("\n") if lines else [text], line):
        stripped = row.strip()
        if stripped.startswith("#"):
            comments.append(stripped.lstrip("#").strip())
            continue
        parts = stripped.split(",") if engine == "ik_llama.cpp" else stripped.split() if lines else [stripped]
        for item in filter(None, (p.strip() for p in parts)):
            found = _item(item, f"{name}:{number}", engine, notes)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                rules.append(found._replace(comments=tuple(filter(None, comments))))
            comments = []
    if problems:
        raise RecipeError(problems)
    return rules


def _item(item: str, where: str, engine: Engine, notes: list[str]) -> SourceRule | Problem:
    pattern, sign, name = item.partition("=")
    if not sign or not pattern or not name:
        return Problem(where, f"'{item}' is no 'pattern=type'; {engine} stops there, too")
    found = find(name)
    if found is None:
        hint = near(name.upper().replace("-", "_"), [t.name for t in QUANT_TYPES if t.writable])
        return Problem(where, f"'{item}': unknown type '{name}'{hint or '; qxmix types lists them'}")
    if engine not in found.engines:
        return Problem(where, f"'{item}': {found.name} is not a type of {engine}; is it the other engine's recipe?")
    if engine == "llama.cpp":
        pattern = pattern.lower()
    if fault := _pattern_fault(pattern, engine):
        return Problem(where, f"'{item}': {fault}")
    if engine == "ik_llama.cpp" and name != spelled(found.name):
        notes.append(f"ik_llama.cpp takes types as it spells them: '{spelled(found.name)}', not '{name}'")
    return SourceRule(pattern, found.name, where)


def _pattern_fault(pattern: str, engine: Engine) -> str:
    """What is wrong with a pattern, or an empty string."""
    if not pattern.isprintable():
        return "there is a control character in the pattern; remove it"
    if _ALIEN_GROUP.search(pattern):
        return f"{engine} compiles patterns as ECMAScript, which knows no such group '(?'"
    return pattern_error(pattern) or ecmascript_fault(pattern)


def spelled(name: str) -> str:
    """A type as ik_llama.cpp's options want it: lower case but for the K of plain K-quants and of Q8_KV."""
    lower = name.lower()
    return lower.replace("_k", "_K") if _IK_CASE.match(name) else lower
