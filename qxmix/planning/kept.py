"""Why a tensor is carried over as it is, as a value."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Why(Enum):
    """The kinds of reasons; the values are how they are put into words, with what they are about."""

    RECIPE = "the recipe keeps /{}/"
    """A pattern of ``keep``."""
    RULE = "by {}"
    """``type: keep`` of a rule or of the default, and its place."""
    UNKNOWN_TYPE = "its type id {} is unknown"
    INTEGERS = "it holds {} integers"
    NAME = "its name does not end in 'weight'"
    VECTOR = "it has one dimension"
    NORM = "it is a norm"
    ENGINE = "{} never quantizes '{}'"
    """An engine, and what of the name it goes by."""


class Kept(NamedTuple):
    """A reason and what it is about; as text, a phrase for messages."""

    why: Why
    about: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.why.value.format(*self.about)
