"""Errors by whose fault they are, and the problems they carry.

Every failure a user can cause is one of the four children of :class:`QxmixError`; anything else that escapes is
a bug.  A problem is collected rather than raised at once, so that one run names all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in a recipe: ``recipe.yaml:12: rules[3].type``."""

    file: str
    """As messages call it: the path as given, or a shipped recipe's name."""
    line: int = 0
    """Counted from 1; 0 for the whole file."""
    path: str = ""
    """Keys and indices down to the value, empty for the whole file."""

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}{f': {self.path}' if self.path else ''}"

    def inner(self, step: str) -> Place:
        """A key of the value, as ``.type``, or an item, as ``[1]``; it is told with the line of the whole."""
        return replace(self, path=f"{self.path}{step}".removeprefix("."))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is and what to do about it."""

    where: Place | str
    """A place in a recipe, or the name of a tensor or a file; empty where there is no better place."""
    text: str
    """What is wrong, the value that is wrong, and the remedy; one sentence or two, no newline."""
    severity: Severity = "error"
    id: str = ""
    """Stable short name such as ``rule-unmatched``, by which a recipe can silence it; empty for plain errors."""

    def __post_init__(self) -> None:
        # What is quoted may come from a hostile file: one line, and nothing that a terminal would obey.
        if isinstance(self.where, str):
            object.__setattr__(self, "where", _printable(self.where))
        object.__setattr__(self, "text", _printable(self.text))

    def __str__(self) -> str:
        where = _printable(str(self.where))
        return f"{where}: {self.text}" if where else self.text


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def severity_order(problem: Problem) -> int:
    """Sort key: errors, warnings, notes."""
    return ("error", "warning", "note").index(problem.severity)


class QxmixError(Exception):
    """Base of the errors that a user can cause; the command line turns it into ``Error: ...`` and ``exit_code``."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problems: str | Problem | list[Problem] | tuple[Problem, ...]) -> None:
        if isinstance(problems, str):
            problems = Problem("", problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def at(cls, where: object, text: str) -> Self:
        """The error of one problem; ``where`` is a place in a recipe, or a path or a name, as text or not."""
        return cls(Problem(where if isinstance(where, Place) else str(where), text))

    @classmethod
    @contextmanager
    def of_system(cls, where: object, refused: str) -> Iterator[None]:
        """Make this error of what the system answers inside; ``refused`` is what was not done: "cannot be read"."""
        try:
            yield
        except OSError as error:
            raise cls.at(where, f"{refused}: {error.strerror or error}") from None

    def __reduce__(self) -> tuple[type[QxmixError], tuple[tuple[Problem, ...]]]:
        # The default would rebuild from the joined text and lose the problems on the way back from a worker process.
        return type(self), (self.problems,)


class RecipeError(QxmixError):
    """The recipe is at fault: syntax, schema, unknown type, bad pattern."""

    exit_code = 2


class ModelFileError(QxmixError):
    """An input file is at fault: not a GGUF, truncated, hostile, or an importance matrix that does not parse."""


class PlanError(QxmixError):
    """Recipe and model together break a policy: fallback, limits, ``expect``, missing importance."""

    exit_code = 3


class RunError(QxmixError):
    """The run failed: space, permissions, a worker, a check at the end."""
