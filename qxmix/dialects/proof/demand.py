"""Which words of a call a recipe hangs on though the text does not tell them; all of them in one error.

Where the matrix, the input and the output lie is nothing that a recipe says: their names may be unknown as long as each
is one word.  ``$A`` without quotes may be several, or none, so that the words behind it move up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qxmix.dialects.proof.faults import advice, name_of, short, unknown
from qxmix.dialects.proof.mixes import read_mix
from qxmix.errors import RecipeError
from qxmix.quants import Engine

if TYPE_CHECKING:
    from qxmix.dialects.proof.blocks import Call
    from qxmix.dialects.proof.expand import Argument

_SCALARS = re.compile(r"(?:\$(?:env:)?\w+|\$\{\w+(?::?-[^{}]*)?\}|[^$`*?\[\]{}@<>])+")
"""A word whose expansions are variables that are no arrays."""
_EXPANSIONS = ("$", "`", "~", "%", "<", ">", "@")


class _Demand(NamedTuple):
    word: Argument
    option: str = ""
    """The option whose value it is."""
    quotable: bool = False
    """Whether in quotes it would be none: it is a file's name, whatever that is, if only it is one word."""


def check_told(call: Call, name: str, engine: Engine, base: str | None, takes_one: Callable[[str], bool]) -> None:
    """Everything that the recipe hangs on is told.

    Args:
        call: The words.
        name: The source's name, for messages.
        engine: Whose command it is.
        base: The mix that was given in place of the TYPE.
        takes_one: Whether an option has a value.

    Raises:
        RecipeError: a word is not, or the call stands in a loop; the error names every option to give.

    """
    demands = _demands(call, engine, base, takes_one)
    if call.loop is None:
        if demands:
            raise RecipeError.at(f"{name}:{demands[0].word.line}", _told(demands))
        return
    options = [call.loop.option()]
    others = [d for d in demands if (n := name_of(d.word.unknown)) and n != call.loop.name]
    options += _options(others)
    raise RecipeError.at(f"{name}:{call.loop.line}", call.loop.problem() + " ".join(dict.fromkeys(options)))


def _options(demands: Sequence[_Demand]) -> list[str]:
    return [f"--set {name}=VALUE" for d in demands if (name := name_of(d.word.unknown))]


def _told(demands: Sequence[_Demand]) -> str:
    """What to say of words that are asked for, and where quotes would do."""
    told = _asked(demands)
    if not all(d.quotable for d in demands):
        return told
    it = "it" if len(demands) == 1 else "each"
    return f"{told}; or put quotes around {it}, which is then one word whatever its value"


def _asked(demands: Sequence[_Demand]) -> str:
    first = demands[0]
    words = list(dict.fromkeys(short(d.word.unknown) for d in demands))
    if len(words) == 1:
        told = unknown(first.word)
        if first.option and first.word.unknown.startswith(_EXPANSIONS):
            told = f"the value of {first.option} is {words[0]}, which this text does not tell; "
            told += advice(first.word.unknown)
        return told
    options = dict.fromkeys(_options(demands))
    give = f", or give them with {' '.join(options)}" if len(options) == len(words) else ""
    quoted = [f"'{w}'" for w in words]
    listed = f"{', '.join(quoted[:-1])} and {quoted[-1]}"
    return f"{listed} are not told by this text; put in their place what they stand for{give}"


def _demands(call: Call, engine: Engine, base: str | None, takes_one: Callable[[str], bool]) -> list[_Demand]:
    left = list(call.arguments)
    found: list[_Demand] = []
    while left and left[0].text.startswith("--"):
        option = left.pop(0)
        if option.unknown:
            found.append(_Demand(option))
        if takes_one(option.text) and left:
            value = left.pop(0)
            if value.unknown and not (option.text == "--imatrix" and _is_one_word(value)):
                found.append(_Demand(value, option.text, option.text == "--imatrix" and _is_quotable(value)))
    return [*found, *(_positional(left, engine, base) if call.has_program else ())]


def _positional(words: Sequence[Argument], engine: Engine, base: str | None) -> list[_Demand]:
    """Unknown words among ``in.gguf [out.gguf] TYPE [nthreads]`` that are no names of files and no number."""
    place = next((i for i, w in enumerate(words) if i in (1, 2) and read_mix(w.text, engine)), None)
    if place is None and base is None and len(words) > 1:
        # What stands where a TYPE belongs is one, unless it is a file.
        last = min(2, len(words) - 1)
        place = last if words[last].unknown and not _is_gguf(words[last]) else None
    return [
        _Demand(w, quotable=i != place and _is_quotable(w))
        for i, w in enumerate(words)
        if w.unknown and (i == place or not _is_known_kind(w, last=i + 1 == len(words)))
    ]


def _is_known_kind(word: Argument, *, last: bool) -> bool:
    """Whether a word is a file or the number of threads, whatever its value."""
    if word.number:
        return last and not word.literal
    return _is_one_word(word) and (not word.may_split or _is_gguf(word))


def _is_one_word(word: Argument) -> bool:
    """Whether it is one word: quoted, or variables with a text beside them, so that it cannot vanish."""
    if word.unknown.startswith(("<", ">")):
        return False
    return not word.may_split or (bool(word.literal) and _SCALARS.fullmatch(word.text) is not None)


def _is_quotable(word: Argument) -> bool:
    """Whether quotes would make one word of it."""
    return word.may_split and not word.number and _SCALARS.fullmatch(word.text) is not None


def _is_gguf(word: Argument) -> bool:
    return word.literal.lower().endswith(".gguf")
