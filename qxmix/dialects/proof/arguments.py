"""What ``llama-quantize`` makes of its arguments, one after the other.

Sources: ``examples/quantize/quantize.cpp`` of ik_llama.cpp (8337e4cd) and ``tools/quantize/quantize.cpp`` of llama.cpp
(August 2026).  Options come first, then ``in.gguf [out.gguf] TYPE [nthreads]``; ik_llama.cpp compares types with their
case and drops an option with an unknown one without a word, which is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from qxmix.dialects.proof.demand import check_told
from qxmix.dialects.proof.faults import lookalike, short, torn
from qxmix.dialects.proof.mixes import number_prefix, read_mix, read_type
from qxmix.errors import RecipeError
from qxmix.quants import Engine

if TYPE_CHECKING:
    from qxmix.dialects.proof.blocks import Call
    from qxmix.dialects.proof.expand import Argument

SWITCHES = frozenset({
    "--pure", "--leave-output-tensor", "--allow-requantize", "--ignore-imatrix-rules", "--symmetric-q40",
})  # fmt: skip
_FLAG = re.compile(r"--(?:(?:per-layer-)?token-embedding|output-tensor|ffn-gate-inp|attn-\w+|ffn-\w+)-type\Z")
_ONE = frozenset({
    "--imatrix", "--custom-q", "--tensor-type", "--tensor-type-file", "--prune-layers", "--override-kv",
    "--extra-output-tensor", "--repack-pattern", "--include-weights", "--exclude-weights", "--max-buffer-size",
    "--target-bpw", "--target-size", "--fudge-factors",
})  # fmt: skip
_NEEDS_IMATRIX = {
    "ik_llama.cpp": frozenset({
        "IQ2_XS", "IQ2_XXS", "IQ2_S", "IQ2_XXS_R4", "Q2_K_S", "IQ2_XS_R4", "IQ1_S", "IQ1_S_R4", "IQ1_M_R4", "IQ1_M",
    }),
    "llama.cpp": frozenset({"IQ2_XS", "IQ2_XXS", "IQ2_S", "Q2_K_S", "IQ1_S", "IQ1_M"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What the engine is asked to do."""

    engine: Engine
    origin: str
    rules: tuple[tuple[str, str], ...] = ()
    """Patterns as the engine compiles them, and upper-case types, in the order in which they are tried."""
    base: str | None = None
    """The mix; None: what no rule names stays as it is."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Upper-case types by option."""
    switches: frozenset[str] = frozenset()
    has_imatrix: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)
    """What scales are multiplied with, by upper-case type."""
    caveats: tuple[str, ...] = ()
    """Why the engine itself would not take the words as they stand."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words of a command, told apart."""

    options: tuple[tuple[Argument, Argument | None], ...]
    """Options with their values."""
    mix: Argument | None
    """The TYPE."""


def split(call: Call, name: str, engine: Engine, base: str | None) -> Arguments:
    """Tell options, files and TYPE apart, as the engine does.

    Raises:
        RecipeError: a word is none of them, or is not known.

    """
    for argument in call.arguments:
        if found := lookalike(argument.text):
            raise _fail(name, argument, found)
    check_told(call, name, engine, base, _takes_one)
    left = list(call.arguments)
    options: list[tuple[Argument, Argument | None]] = []
    while left and left[0].text.startswith("--"):
        option = left.pop(0)
        value = None
        if _takes_one(option.text):
            if not left:
                raise _fail(name, option, f"{option.text} lacks its value")
            value = left.pop(0)
            if found := torn(option.text, value.text, left):
                raise _fail(name, option, found)
        elif found := _equals(option.text):
            raise _fail(name, option, found)
        options.append((option, value))
    mix = _positional(left, name, engine, base) if call.has_program else None
    if not call.has_program and left:
        raise _fail(name, left[0], _stray(left[0].text))
    return Arguments(tuple(options), mix)


def _fail(name: str, argument: Argument, text: str) -> RecipeError:
    return RecipeError.at(f"{name}:{argument.line}", text)


def _takes_one(option: str) -> bool:
    return option in _ONE or _FLAG.match(option) is not None


def _equals(text: str) -> str:
    """What is wrong with an option that has its value behind an equals sign; empty for others."""
    option, sign, value = text.partition("=")
    if sign and _takes_one(option):
        return f"llama-quantize takes no '=' there; write {option} {short(value)} with a space"
    return ""


def _positional(words: Sequence[Argument], name: str, engine: Engine, base: str | None) -> Argument | None:
    """``in.gguf [out.gguf] TYPE [nthreads]``; None where --base was given and there is no TYPE."""
    for word, behind in zip_longest(words, words[1:]):
        _check_file(word, behind, name)
    mixes = [i for i, w in enumerate(words) if i in (1, 2) and read_mix(w.text, engine)]
    if not mixes:
        _without_type(words, name, engine, base)
        return None
    place = mixes[0]
    number = number_prefix(words[place].text)
    if number is not None and not words[place].text.isdecimal():
        text = (
            f"llama-quantize reads '{short(words[place].text)}' as file type {number}, since it begins so; "
            "write ./ before it"
        )
        raise _fail(name, words[place], text)
    behind = words[place + 1 :]
    # A variable may hold a number, a tilde stands for a folder.
    may_be = behind and behind[0].unknown and not behind[0].text.startswith("~")
    if behind and not may_be and not re.fullmatch(r"[0-9]{1,9}", behind[0].text):
        said = short(behind[0].text)
        text = f"'{said}' stands behind {words[place].text}, where only a number of threads may; remove it"
        raise _fail(name, behind[0], text)
    if len(behind) > 1:
        raise _fail(name, behind[1], f"'{short(behind[1].text)}' stands behind the number of threads; remove it")
    return words[place]


def _check_file(word: Argument, behind: Argument | None, name: str) -> None:
    """What cannot stand behind the options: other options, and rules."""
    text = word.text
    if word.unknown:
        return
    if text.startswith("-") or ("=" in text and read_type(text.rpartition("=")[2], "ik_llama.cpp", loosely=True)):
        if re.fullmatch(r"-[A-Za-z]", text):
            both = f"{text} {behind.text}" if behind and behind.text.isdecimal() else text
            raise _fail(name, word, f"'{text}' is no option of llama-quantize; leave out '{both}'")
        raise _fail(name, word, _stray(text))


def _stray(text: str) -> str:
    if text.startswith("--"):
        return f"'{short(text)}' stands behind the files, where llama-quantize takes no options; move it before them"
    if text.startswith("-"):
        return f"'{short(text)}' has one dash, llama-quantize's options have two; write -{short(text)}"
    if "=" in text:
        return (
            f"'{short(text)}' is neither an option nor a file: one word follows --tensor-type or --custom-q; give it "
            "an option of its own, or take the space before it out"
        )
    return f"'{short(text)}' is neither an option nor in.gguf, out.gguf, TYPE or a number of threads; remove it"


def _without_type(words: Sequence[Argument], name: str, engine: Engine, base: str | None) -> None:
    files, behind = words[:2], words[2:]
    if any(read_mix(w.text, engine) for w in behind[1:]):
        raise _fail(name, behind[0], _stray(behind[0].text))
    if behind:
        said = short(behind[0].text)
        text = f"'{said}' stands where the TYPE should, and is none of {engine}; write one like Q4_K_M there"
        raise _fail(name, behind[0], text)
    if base is None or not files:
        text = f"no TYPE of {engine} like Q4_K_M stands behind the files of the command; add it, or give --base TYPE"
        raise RecipeError.at(name, text)


def read(
    arguments: Arguments, call: Call, name: str, engine: Engine, base: str | None, files: Mapping[str, str]
) -> Reading:
    """The engine's reading of options that are told apart.

    Args:
        arguments: The options and the TYPE.
        call: Where they come from.
        name: The source's name, for messages.
        engine: Whose command it is.
        base: The mix that was given in place of the TYPE.
        files: Texts of ``--tensor-type-file``, by the word that names them.

    Raises:
        RecipeError: the engine drops an option.

    """
    rules: list[tuple[str, str]] = []
    flags: dict[str, str] = {}
    factors: dict[str, float] = {}
    switches: set[str] = set()
    caveats = list(call.caveats)
    has_imatrix = False
    for option, value in arguments.options:
        if option.text == "--custom-q" and value:
            rules += _split_rules(value.text, ",", engine, caveats, name)
        elif option.text == "--tensor-type" and value:
            rules += _split_rules(value.text, None, engine, caveats, name)
        elif option.text == "--tensor-type-file" and value:
            rules += _split_rules(files[value.text], " ", engine, caveats, name)
        elif option.text == "--imatrix":
            has_imatrix = True
        elif _FLAG.match(option.text) and value:
            flags[option.text] = _flag(value, option.text, engine, name)
        elif option.text == "--fudge-factors" and value:
            factors.update(_factors(value, engine, name))
        elif option.text in SWITCHES:
            switches.add(option.text)
    word = base if base is not None else arguments.mix.text if arguments.mix else None
    mix = read_mix(word, engine) if word is not None else None
    ignores = "--ignore-imatrix-rules" in switches
    if mix in _NEEDS_IMATRIX[engine] and not has_imatrix and not ignores:
        caveats.append(f"{engine} refuses {mix} without --imatrix")
    return Reading(
        engine, name, tuple(rules), mix, flags, frozenset(switches), has_imatrix, factors, tuple(dict.fromkeys(caveats))
    )


def _factors(value: Argument, engine: Engine, name: str) -> dict[str, float]:
    """``type=number`` for each type whose scales are multiplied, by commas."""
    found: dict[str, float] = {}
    for part in value.text.split(","):
        match = re.fullmatch(r"(\w+)=(\d+\.?\d*|\.\d+)", part)
        kind = read_type(match[1], engine, loosely=True) if match else None
        if match is None or kind is None:
            raise _fail(
                name, value, f"'{short(part)}' is no type and factor like iq2_xs=0.95; --fudge-factors needs such"
            )
        found[kind] = float(match[2])
    return found


def _split_rules(text: str, sign: str | None, engine: Engine, caveats: list[str], name: str) -> list[tuple[str, str]]:
    """Rules of one option's value; what the engine stops at is a caveat."""
    items = [text] if sign is None else text.split() if sign == " " else text.split(",")
    rules = []
    for item in items:
        pattern, _, written = item.partition("=")
        if item != item.strip() and "\n" not in item:
            text = f"'{short(item)}' has white space around it, which {engine} takes for a part of it; take it out"
            raise RecipeError.at(name, text)
        found = read_type(written, engine, loosely=False)
        if found is None or not pattern:
            caveats.append(f"{engine} stops at '{short(item)}'")
            rules += _as_meant(item, engine)
            continue
        rules.append((pattern.lower() if engine == "llama.cpp" else pattern, found))
    return rules


def _as_meant(item: str, engine: Engine) -> list[tuple[str, str]]:
    """Rules in an item that the engine does not take: on lines of their own, with comments, types in other case."""
    rules = []
    for row in item.split("\n"):
        pattern, sign, written = row.strip().partition("=")
        if sign and not pattern.startswith("#") and (found := read_type(written, engine, loosely=True)):
            rules.append((pattern.lower() if engine == "llama.cpp" else pattern, found))
    return rules


def _flag(value: Argument, option: str, engine: Engine, name: str) -> str:
    if found := read_type(value.text, engine, loosely=False):
        return found
    if read_type(value.text, engine, loosely=True):
        text = (
            f"{engine} takes types only as it spells them and drops '{option} {value.text}' without a word; "
            f"write {read_spelling(value.text)}, or remove the option"
        )
        raise _fail(name, value, text)
    raise _fail(name, value, f"'{short(value.text)}' is no type of {engine}; {option} needs one")


def read_spelling(text: str) -> str:
    """A type as ik_llama.cpp spells it: the K of K-quants is upper case where nothing follows it."""
    lower = text.lower()
    return re.sub(r"^(q\d)_k\Z", r"\1_K", lower).replace("q8_kv", "q8_KV")
