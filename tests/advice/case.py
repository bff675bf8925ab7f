"""A message with advice, and how it is provoked and followed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A command that draws advice, and the command that the advice makes of it."""

    text: str
    """The advice as it stands in the source."""
    bad: str
    good: str
    recipe: str = ""
    """What ``{r}`` holds for the first command."""
    mended: str = ""
    """And for the second, if it is another."""
    suffix: str = ".yaml"
    """Of the file that holds it."""
    refused: bool = True
    """Whether the first command fails."""


def of_recipe(text: str, bad: str, good: str, command: str = "plan {r} {model}") -> Case:
    return Case(text, command, command, bad, good)


def of_script(text: str, bad: str, good: str, more: str = "", then: str | None = None) -> Case:
    command = f"import {{script}} --model {{model}} {more}"
    return Case(
        text, command, command if then is None else f"import {{script}} --model {{model}} {then}", bad, good, ".sh"
    )
