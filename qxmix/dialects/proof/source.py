"""A source's text to the proof's reading of it: command lines of any shell, and lists of rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from qxmix.dialects.proof.arguments import Reading
from qxmix.dialects.proof.blocks import Call
from qxmix.dialects.proof.lexer import Lexer
from qxmix.dialects.proof.mixes import read_mix, read_type
from qxmix.dialects.proof.script import read_shell
from qxmix.dialects.proof.windows import read_windows, shell_of
from qxmix.quants import Engine

_QUOTED = re.compile(r"(?:\s*#.*\n|\s)*\w+=[\"']")
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_PROMPT = re.compile(r"^(\s*)(?:\$|>|PS [^>]*>|C:\\[^>]*>) (?=\S)")


def without_prose(text: str) -> str:
    """The blocks of code of a Markdown text, the rest blanked out so that lines keep their numbers."""
    lines = text.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    if not any(_FENCE.match(x) for x in lines):
        return "\n".join(re.sub(r"^\s*\$ (?=\S)", "", x) for x in lines)
    inside, kept = False, []
    for line in lines:
        fence = _FENCE.match(line) is not None
        inside ^= fence
        kept.append(_PROMPT.sub(r"\1", line) if inside and not fence else "")
    return "\n".join(kept)


def call_of(text: str, name: str, suffix: str, given: Mapping[str, str]) -> Call | None:
    """The words that a shell hands to ``llama-quantize``; None where the text does not call it.

    Raises:
        RecipeError: it cannot be told which, for example since a word depends on what is not in the text.

    """
    code = without_prose(text)
    shell = shell_of(code, suffix)
    if shell != "sh":
        return read_windows(code, name, given, shell)
    call = read_shell(code, name, given)
    if call is None or "\r\n" not in text:
        return call
    caveat = "its lines end as Windows ends them (\\r\\n), which a POSIX shell takes for a part of the last word"
    return replace(call, caveats=(*call.caveats, caveat))


def read_list(text: str, name: str, engine: Engine, base: str | None) -> Reading:
    """What is asked for by a list of ``pattern=type``, one or more on a line, with comments between them."""
    rules = []
    body = without_prose(text)
    first = next((t for t in Lexer(body, name).lex().tokens if t.pieces), None) if _QUOTED.match(body) else None
    if first is not None:
        # A list pasted with its variable: custom="...".
        body = "".join(p.text for p in first.pieces[1:])
    for row in body.split("\n"):
        line = row.strip()
        if line.startswith("#"):
            continue
        for item in line.split("," if engine == "ik_llama.cpp" else None):
            pattern, _, kind = item.strip().rpartition("=")
            if pattern and (found := read_type(kind, engine, loosely=True)):
                rules.append((pattern.lower() if engine == "llama.cpp" else pattern, found))
    return Reading(engine, name, tuple(rules), None if base is None else read_mix(base, engine))
