"""Options whose words are read by a function, and sizes in bytes as people write them."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import click

from qxmix.recipe.sizes import HUB_NBYTES, parse_size, parse_tokens

T = TypeVar("T")


class Finite(click.FloatRange):
    """A number in a range, which those that are none, or endless, would pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """The number."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"'{value}' is no finite number", param, ctx)
        return number


class Parsed(click.ParamType[T]):
    """What a function makes of the word; its ``ValueError`` is what the user is told."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """What the function returns."""
        try:
            return self.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_nbytes(text: str) -> int:
    """Bytes of a size such as ``50G``, ``350GiB`` or ``24GB``.

    Raises:
        ValueError: it is no size, or none that anything has.

    """
    nbytes = parse_size(text)
    if nbytes < 1:
        raise ValueError("must be at least one byte")
    return nbytes


def _parse_file_size(text: str) -> int:
    """The same, or ``hub`` for the most that a file on Hugging Face's hub may have."""
    return HUB_NBYTES if text.lower() == "hub" else parse_nbytes(text)


SIZE = Parsed("size", parse_nbytes)
FILE_SIZE = Parsed("size", _parse_file_size)
TOKENS = Parsed("tokens", parse_tokens)
"""A length of context such as ``32768`` or ``32k``."""
_LEAST_TOKENS = 8


def _parse_text_length(text: str) -> int:
    found = parse_tokens(text)
    if found < _LEAST_TOKENS:
        raise ValueError(f"must be at least {_LEAST_TOKENS} tokens")
    return found


_TEXT_LENGTH = Parsed("tokens", _parse_text_length)


def text_length(*names: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """``--text-ctx``, also under other names: how many tokens of a text are run at a time."""
    return click.option(
        "text_ctx", "--text-ctx", *names, default=512, show_default=True, type=_TEXT_LENGTH, help="Tokens per chunk."
    )
