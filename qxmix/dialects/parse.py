"""Text of a source to a :class:`SourceMix`: rule lists, and command lines found in scripts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.dialects.command import Command, find_command
from qxmix.dialects.mixes import mix_name
from qxmix.dialects.model import Dialect, SourceMix, SourceRule
from qxmix.dialects.shell import read_script
from qxmix.errors import Problem, RecipeError
from qxmix.quants import QUANT_TYPES, find
from qxmix.recipe.patterns import pattern_error
from qxmix.recipe.schema import near
from qxmix.recipe.tree import MAX_NBYTES, read_text

if TYPE_CHECKING:
    from qxmix.quants import Engine

_IK_CASE = re.compile(r"Q\d_K\Z|Q8_KV")
_ASSIGNED = re.compile(r"(\s*#.*\n)*\s*\w+=[\"']")
_ALIEN_GROUP = re.compile(r"(?<!\\)\(\?(?![:=!])")


def read_source(path: Path, dialect: Dialect | None, base: str | None) -> SourceMix:
    """Read a file with a recipe of another tool.

    Args:
        path: The file: a script or command line, a list of ``pattern=type``, or a recipe of Thireus' suite.
        dialect: Whose it is; None tells it from the text.
        base: The mix that decides what no rule does, for lists that do not say.

    Raises:
        RecipeError: it does not parse, says nothing, or has options that cannot be carried over.

    """
    return parse_source(_text(path), path, dialect, base)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NBYTES + 1)
    except OSError as error:
        if " " in str(path) and not path.exists():
            text = "there is no such file; write the command line into a file, or pipe it to 'qxmix import -'"
            raise RecipeError(Problem(str(path), text)) from None
        raise RecipeError(Problem(str(path), f"cannot be read: {error.strerror or error}")) from None
    return read_text(data, str(path))


def parse_source(text: str, path: Path, dialect: Dialect | None, base: str | None) -> SourceMix:
    """Parse the text of a source; the arguments and errors are those of :func:`read_source`."""
    command = None if dialect == "thireus" else find_command(text, str(path), dialect)
    mix = _from_command(command, path, base) if command else _from_list(text, path, dialect, base)
    if not mix.rules and mix.base is None:
        raise RecipeError(Problem(str(path), "holds no 'pattern=type' and no llama-quantize command line"))
    return mix


def _from_command(command: Command, path: Path, base: str | None) -> SourceMix:
    engine = command.engine
    notes = list(command.notes)
    rules: list[SourceRule] = []
    for option, word in command.rules:
        rules += parse_items(word.text, f"{path}", word.first_line or word.line, engine, notes, lines=option != "one")
    for word in command.files:
        listed = next((p for p in (path.parent / word.text, Path(word.text)) if p.is_file()), None)
        if listed is None:
            text = f"the --tensor-type-file '{word.text}' is not there; put it beside {path.name}"
            raise RecipeError(Problem(f"{path}:{word.line}", text))
        rules += parse_items(_text(listed), str(listed), 1, engine, notes)
    mix = command.base if base is None else _base(base, engine)
    if mix is None:
        text = f"no TYPE of {engine} like Q4_K_M stands behind the files of the command; add it, or give --base TYPE"
        raise RecipeError(Problem(str(path), text))
    return SourceMix(
        engine, f"{path.name}, a llama-quantize command line of {engine}", tuple(rules), mix, command.pure,
        command.has_imatrix, command.leave_output, command.allow_requantize, command.ignore_imatrix_rules,
        command.flags, tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _from_list(text: str, path: Path, dialect: Dialect | None, base: str | None) -> SourceMix:
    notes: list[str] = []
    body, line = text, 1
    if _ASSIGNED.match(text):
        # A list pasted with its variable: custom="...".
        value = next(iter(read_script(text, str(path)).variables.values()))
        body, line = value.text, value.first_line
    found = dialect or _told(body, path, base)
    engine: Engine = "llama.cpp" if found == "llama.cpp" else "ik_llama.cpp"
    rules = parse_items(body, str(path), line, engine, notes)
    if found == "thireus":
        origin = f"{path.name}, a recipe of Thireus' GGUF Tool Suite"
        return SourceMix(found, origin, tuple(rules), None if base is None else _base(base, engine))
    if base is None and rules:
        text = (
            "a list of rules does not say which mix decides what no rule does; "
            "give the TYPE of its llama-quantize command line with --base, for example --base Q4_K_M"
        )
        raise RecipeError(Problem(str(path), text))
    kind = "--custom-q" if engine == "ik_llama.cpp" else "--tensor-type"
    mix = _base(base, engine) if base else None
    return SourceMix(found, f"{path.name}, a {kind} list of {engine}", tuple(rules), mix, notes=tuple(notes))


def _told(text: str, path: Path, base: str | None) -> Dialect:
    """Whose list it is: told by anchors, by types that only one engine has, else by comments."""
    rows = [r.strip() for r in text.split("\n") if r.strip()]
    items = [i.strip().partition("=") for r in rows if not r.startswith("#") for i in r.split(",")]
    if items and all(p.startswith("^") and p.endswith("$") for p, _, _ in items) and base is None:
        return "thireus"
    types = [t for _, _, name in items if (t := find(name))]
    if any("llama.cpp" not in t.engines for t in types):
        return "ik_llama.cpp"
    if any("ik_llama.cpp" not in t.engines for t in types):
        return "llama.cpp"
    if any(r.startswith("#") or "," in r for r in rows) or not types:
        return "ik_llama.cpp"
    raise RecipeError(Problem(str(path), "this list could be of either engine; say which with --dialect"))


def _base(text: str, engine: Engine) -> str:
    found = mix_name(text, engine)
    if found is None:
        raise RecipeError(Problem("--base", f"'{text}' is no TYPE of {engine}'s llama-quantize"))
    return found


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
                rules.append(replace(found, comments=tuple(filter(None, comments))))
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
    return pattern_error(pattern)


def spelled(name: str) -> str:
    """A type as ik_llama.cpp's options want it: lower case but for the K of plain K-quants and of Q8_KV."""
    lower = name.lower()
    return lower.replace("_k", "_K") if _IK_CASE.match(name) else lower
