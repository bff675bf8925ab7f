"""Squares of heat maps, as templates draw them."""

from __future__ import annotations

from dataclasses import dataclass

from qxmix.report.heat_map import SCALE, mark

BPW_KEY = tuple((i, mark(edge), "" if mark(edge).isdigit() else f"{edge:g} bits") for i, edge in enumerate(SCALE))
"""Step, mark, and what the mark means where it is no number of bits."""


@dataclass(frozen=True, slots=True)
class Square:
    """One cell of the heat map."""

    step: int
    """Index of its colour; -1 where there is no tensor."""
    mark: str
    text: str
    """What it says when it is hovered, focused or read."""
