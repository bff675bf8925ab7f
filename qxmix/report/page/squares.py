"""Squares of heat maps, as templates draw them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Square:
    """One cell of the heat map."""

    step: int
    """Index of its colour; -1 where there is no tensor."""
    mark: str
    text: str
    """What it says when it is hovered, focused or read."""
