"""Regular expressions of a recipe: compiled once, and never allowed to run away."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from qxmix.errors import Place, RecipeError

if TYPE_CHECKING:
    import regex

SEARCH_SECONDS = 0.5
"""Longest search in one name.  A sane one takes a microsecond; ``re`` could not be stopped at all."""
_MAX_LENGTH = 10_000
"""Longest pattern, in characters."""


@lru_cache(maxsize=65536)
def _compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Compile a pattern, once per process.

    Raises:
        regex.error: it is not a regular expression.

    """
    import regex  # noqa: PLC0415 - for patterns that are more than a text

    with warnings.catch_warnings():
        # "Possible nested set" is about a later syntax of the regex package.
        warnings.simplefilter("ignore", FutureWarning)
        return regex.compile(pattern)


_LITERAL = re.compile(r"(\^?)((?:[A-Za-z0-9_\-]|\\[.\-])+)(\$?)\Z")


@lru_cache(maxsize=65536)
def _literal(pattern: str) -> tuple[str, str, str] | None:
    """Anchor, text and end of a pattern that is just a text, or None.

    Most rules are, and imported recipes have a thousand of them: comparing texts plans such a one in half the time.
    """
    found = _LITERAL.match(pattern)
    return (found[1], found[2].replace("\\", ""), found[3]) if found else None


def _holds(literal: tuple[str, str, str], name: str) -> bool:
    start, text, end = literal
    if start:
        return name == text if end else name.startswith(text)
    return name.endswith(text) if end else text in name


def pattern_error(pattern: str) -> str:
    """What is wrong with a pattern, or an empty string."""
    if len(pattern) > _MAX_LENGTH:
        return f"the pattern has {len(pattern):,} characters; the most is {_MAX_LENGTH:,}"
    if _literal(pattern) is not None:
        return ""
    import regex  # noqa: PLC0415 - as above

    try:
        _compile_pattern(pattern)
    except regex.error as error:
        # Its text is "missing ) at position 3".
        return f"'{pattern}' is not a regular expression: {error}{_glob(pattern)}"
    except (RecursionError, OverflowError, MemoryError):
        return "the pattern is nested or repeated too deeply to compile"
    return ""


def _glob(pattern: str) -> str:
    """What to write for a pattern of file names, as llama-quantize's users may expect it to be one."""
    bare = pattern.strip("*")
    if bare == pattern or not re.fullmatch(r"[\w.*-]+", bare):
        return ""
    meant = bare.replace(".", "\\.").replace("*", ".*")
    return f"; it is searched anywhere in the name, so write '{meant}', and '.*' for any text between"


def search(pattern: str, name: str, where: Place | str) -> bool:
    """Whether the pattern is found in a tensor's name.

    Raises:
        RecipeError: the search takes longer than ``SEARCH_SECONDS``.

    """
    if (literal := _literal(pattern)) is not None:
        return _holds(literal, name)
    try:
        return _compile_pattern(pattern).search(name, timeout=SEARCH_SECONDS) is not None
    except TimeoutError:
        text = (
            f"'{pattern}' takes more than {SEARCH_SECONDS} s on the name '{name}'; "
            "nested repeats like (a+)+ backtrack without end, write the pattern without them"
        )
        raise RecipeError.at(where, text) from None
