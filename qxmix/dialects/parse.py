"""Text of a source to a :class:`SourceMix`: rule lists, and command lines found in scripts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from qxmix.container.model import ModelHeader
from qxmix.container.source import show
from qxmix.dialects.command import Command, engine_of, find_command, options_of
from qxmix.dialects.items import parse_items
from qxmix.dialects.mixes import mix_name
from qxmix.dialects.model import Dialect, SourceMix, SourceRule
from qxmix.dialects.plain import shell_text
from qxmix.dialects.proof.arguments import Reading, read, split
from qxmix.dialects.proof.blocks import Call
from qxmix.dialects.proof.source import call_of, read_list
from qxmix.dialects.shell import read_script
from qxmix.dialects.shell_words import Word
from qxmix.errors import RecipeError
from qxmix.planning.gate import never_quantized
from qxmix.quants import Engine, find
from qxmix.recipe.patterns import search
from qxmix.recipe.tree import MAX_NBYTES, read_text

_ASSIGNED = re.compile(r"(\s*#.*\n)*\s*[A-Za-z_]\w*=[\"']")
_RULES = re.compile(
    r"(?!.*(?:\s-|quantize))(?:"
    r"[^\s=,\"'<>;]+=\w+(?:[,\s]+[^\s=,\"'<>;]+=\w+)*,?|[^=\"';|<>-][^=\"';|<>]*=\w+,?)"
)
"""A line with rules alone: several in a row, or one whose pattern may have spaces in it."""
_TYPE = re.compile(r"[^\s=]=(\w+)")
_COMMAND = re.compile(r"quantize|(?:^|\s)-+[a-z]|[\u2010-\u2015\u2212][a-z]")
_RECIPE = re.compile(r"\{?\s*[\"']?qxmix[\"']?\s*:\s")
_NEVER = re.compile(r"norm|bias")
_EVERYTHING = (".*", "", ".", "weight", ".+")
_NO_EFFECT = "--attn-qkv-type"
_TWO_WAYS = "the text can be read in two ways; write the command out plainly, its rules in single quotes"


def read_source(
    path: Path, dialect: Dialect | None, base: str | None,
    given: Mapping[str, str] | None = None, header: ModelHeader | None = None,
) -> SourceMix:  # fmt: skip
    """Read a file with a recipe of another tool.

    Args:
        path: The file: a script or command line, a list of ``pattern=type``, or a recipe of Thireus' suite.
        dialect: Whose it is; None tells it from the text.
        base: The mix that decides what no rule does, for lists that do not say.
        given: Values of variables that a script does not tell.
        header: The model it is for; lists whose rules take all of its tensors need no ``base``.

    Raises:
        RecipeError: it does not parse, says nothing, or has options or words that cannot be carried over.

    """
    return parse_source(_text(path), path, dialect, base, given, header)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NBYTES + 1)
    except OSError as error:
        if " " in str(path) and not os.path.exists(path):  # noqa: PTH110 - a whole command is too long for Path's
            text = "there is no such file; write the command line into a file, or pipe it to 'qxmix import -'"
            raise RecipeError.at(path, text) from None
        raise RecipeError.at(path, f"cannot be read: {error.strerror or error}") from None
    return read_text(data, str(path))


def parse_source(
    text: str, path: Path, dialect: Dialect | None, base: str | None,
    given: Mapping[str, str] | None = None, header: ModelHeader | None = None,
) -> SourceMix:  # fmt: skip
    """Parse the text of a source; the arguments and errors are those of :func:`read_source`."""
    known = given or {}
    if (at := text.find("\0")) >= 0:
        where = f"{path}:{text.count(chr(10), 0, at) + 1}"
        raise RecipeError.at(where, "there is a NUL character, at which a shell stops; remove it")
    if any(_RECIPE.match(r) for r in _said(text)):
        told = "is a qxmix recipe already; 'qxmix plan RECIPE MODEL' shows what it makes of a model"
        raise RecipeError.at(path, told)
    call = None if dialect == "thireus" or _is_list(text) else call_of(text, str(path), path.suffix.lower(), known)
    if call is None:
        mix = _from_list(text, path, dialect, base, header)
    else:
        mix = _from_call(call, text, path, dialect, base, known, header)
    if not mix.rules and mix.base is None:
        raise RecipeError.at(path, "holds no 'pattern=type' and no llama-quantize command line")
    return mix


def _said(text: str) -> list[str]:
    """The lines that are neither empty nor comments."""
    return [r for r in map(str.strip, text.split("\n")) if r and not r.startswith("#")]


def _is_list(text: str) -> bool:
    """Whether a text is a list of rules, whatever its comments speak of, or at least names no command."""
    return _all_rules(text) or not any(_COMMAND.search(r) for r in _said(text))


def _all_rules(text: str) -> bool:
    return all(_RULES.fullmatch(r) for r in _said(text))


def _has_rules(text: str) -> bool:
    """Whether a text that holds no command has rules in it: all lines look like some, or a type stands in one."""
    return _all_rules(text) or any(find(kind) for kind in _TYPE.findall(text))


def _from_call(
    call: Call, text: str, path: Path, dialect: Dialect | None, base: str | None, given: Mapping[str, str],
    header: ModelHeader | None,
) -> SourceMix:  # fmt: skip
    """Read the command twice, once for the recipe and once for the proof, and hold the two against each other."""
    name = str(path)
    engine = engine_of((a.text for a in call.arguments), dialect)
    if base is not None:
        _base(base, engine)
    arguments = split(call, name, engine, base)
    command = find_command(text, name, path.suffix.lower(), dialect, given)
    if command is None:
        raise RecipeError.at(f"{name}:{call.line}", _TWO_WAYS)
    files = {w.text: _listed(w, path) for w in command.files}
    named = {
        v.text: files.get(v.text, ("", ""))[1] for o, v in arguments.options if v and o.text == "--tensor-type-file"
    }
    reading = read(arguments, call, name, engine, base, named)
    mix = _from_command(command, path, base, files, reading)
    _compare(mix, f"{name}:{call.line}")
    if mix.base is None:
        _check_covered(mix, header, path, pasted=True)
    skipped = [f"other commands were not read: {', '.join(call.skipped)}"] if call.skipped else []
    return replace(mix, notes=(*mix.notes, *skipped))


def _compare(mix: SourceMix, where: str) -> None:
    """Both readings say the same.

    Raises:
        RecipeError: they do not; the first difference is named.

    """
    reading = mix.reading
    theirs = [f"{pattern}={kind.lower()}" for pattern, kind in reading.rules]
    ours = [f"{r.pattern}={r.type.lower()}" for r in mix.rules]
    theirs += [f"{option} {kind.lower()}" for option, kind in sorted(reading.flags.items()) if option != _NO_EFFECT]
    ours += [f"{option} {kind.lower()}" for option, kind in sorted(options_of(mix).items())]
    theirs += [f"{kind}={factor:g}" for kind, factor in sorted(reading.factors.items())]
    ours += [f"{kind}={factor:g}" for kind, factor in sorted(mix.factors.items())]
    theirs += [str(reading.base), *sorted(reading.switches), str(reading.has_imatrix)]
    ours += [str(mix.base), *sorted(mix.switches), str(mix.has_imatrix)]
    if theirs != ours:
        pairs = zip_longest(theirs, ours, fillvalue="nothing")
        their, our = next((a, b) for a, b in pairs if a != b)
        raise RecipeError.at(
            where, f"llama-quantize is told '{their[:60]}' where the text has '{our[:60]}'; {_TWO_WAYS}"
        )


def _listed(word: Word, path: Path) -> tuple[str, str]:
    """Name and text of a ``--tensor-type-file``."""
    # Not Path.is_file, which raises where a whole list stands in the name's place and is too long for one.
    listed = next((p for p in (path.parent / word.text, Path(word.text)) if os.path.isfile(p)), None)  # noqa: PTH113
    if listed is None:
        text = f"the --tensor-type-file {show(word.text)} is not there; put it beside {path.name}"
        raise RecipeError.at(f"{path}:{word.line}", text)
    return str(listed), _text(listed)


def _from_command(
    command: Command, path: Path, base: str | None, files: Mapping[str, tuple[str, str]], reading: Reading
) -> SourceMix:
    engine = command.engine
    notes = list(command.notes)
    rules: list[SourceRule] = []
    for option, word in command.rules:
        if option == "file":
            name, text = files[word.text]
            rules += parse_items(text, name, 1, engine, notes)
        else:
            line = word.first_line or word.line
            rules += parse_items(word.text, f"{path}", line, engine, notes, lines=option != "one")
    mix = command.base if base is None else _base(base, engine)
    return SourceMix(
        engine, f"{path.name}, a llama-quantize command line of {engine}", tuple(rules), reading, mix,
        frozenset(command.switches), command.has_imatrix, command.factors, command.flags, tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _from_list(
    text: str, path: Path, dialect: Dialect | None, base: str | None, header: ModelHeader | None
) -> SourceMix:
    notes: list[str] = []
    body, line = shell_text(text, ""), 1
    if not _all_rules(body) and _ASSIGNED.match(body):
        # A list pasted with its variable: custom="...".
        value = next(iter(read_script(body, str(path)).variables.values()), None)
        if value is not None:
            body, line = value.text, value.first_line
    if not _has_rules(body):
        told = "no llama-quantize command found in it, and nothing that looks like a rule 'pattern=type'"
        raise RecipeError.at(path, told)
    found = dialect or _told(body, path, base)
    engine: Engine = "llama.cpp" if found == "llama.cpp" else "ik_llama.cpp"
    rules = parse_items(body, str(path), line, engine, notes)
    mix = _base(base, engine) if base else None
    reading = read_list(text, str(path), engine, base)
    if found == "thireus":
        kind = "a recipe of Thireus' GGUF Tool Suite"
    else:
        kind = f"a {'--custom-q' if engine == 'ik_llama.cpp' else '--tensor-type'} list of {engine}"
    result = SourceMix(found, f"{path.name}, {kind}", tuple(rules), reading, mix, notes=tuple(notes))
    _compare(result, str(path))
    if mix is None and rules and found != "thireus":
        _check_covered(result, header, path)
    return result


def _check_covered(mix: SourceMix, header: ModelHeader | None, path: Path, *, pasted: bool = False) -> None:
    """Nothing is left for a mix to decide.

    Raises:
        RecipeError: something is, or may be.

    """
    if any(r.pattern in _EVERYTHING for r in mix.rules):
        return
    give = "give the TYPE of its llama-quantize command line with --base, for example --base Q4_K_M"
    if header is None and pasted:
        text = "the TYPE that decides what no rule does stands in no command; add it, or give --base TYPE"
        raise RecipeError.at(path, text)
    if header is None:
        text = (
            f"a list of rules does not say which mix decides what no rule does; {give}, "
            "or --model MODEL if its rules take every tensor"
        )
        raise RecipeError.at(path, text)
    free = [t for t in header.tensors if not never_quantized(t, (mix.engine,), header.architecture)]
    left = [t.name for t in free if not any(search(r.pattern, t.name, r.where) for r in mix.rules)]
    if left:
        more = f" and {len(left) - 1:,} more tensors" if len(left) > 1 else ""
        raise RecipeError.at(path, f"no rule decides {left[0]}{more}, and nothing here says which mix does; {give}")


def _told(text: str, path: Path, base: str | None) -> Dialect:
    """Whose list it is: told by what it names, by types that only one engine has, else by comments."""
    rows = [r.strip() for r in text.split("\n") if r.strip()]
    items = [i.strip().rpartition("=") for r in rows if not r.startswith("#") for i in r.split(",")]
    anchored = items and all(p.startswith("^") and p.endswith("$") for p, _, _ in items)
    # Thireus' suite gives every tensor a type, also those that no engine quantizes.
    every = any(_NEVER.search(p) for p, _, _ in items)
    if base is None and items and (anchored or every or path.suffix == ".recipe"):
        return "thireus"
    types = [t for _, _, name in items if (t := find(name))]
    if any("llama.cpp" not in t.engines for t in types):
        return "ik_llama.cpp"
    if any("ik_llama.cpp" not in t.engines for t in types):
        return "llama.cpp"
    if any(r.startswith("#") or "," in r for r in rows) or not types:
        return "ik_llama.cpp"
    raise RecipeError.at(path, "this list could be of either engine; say which with --dialect")


def _base(text: str, engine: Engine) -> str:
    found = mix_name(text, engine)
    if found is None:
        raise RecipeError.at("--base", f"'{text}' is no TYPE of {engine}'s llama-quantize")
    return found
