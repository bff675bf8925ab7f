"""The page about several recipes, plans and models: side by side as a table, by size, by part and by layer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from qxmix.recipe.categories import name_parts
from qxmix.report import look
from qxmix.report.heat_map import mark, step_of
from qxmix.report.lineup import cells, lineup_chart
from qxmix.report.page.squares import BPW_KEY, Square
from qxmix.report.page.template import template

if TYPE_CHECKING:
    from qxmix.diff import Entry
    from qxmix.solve.lineup import Entrant


@dataclass(frozen=True, slots=True)
class Grid:
    """Entrants down, something across; squares are bits per weight."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square, ...]], ...]


def compare_page(entrants: Sequence[Entrant], model: str) -> str:
    """The page as HTML.

    Args:
        entrants: In the order in which they are shown.
        model: What the recipes are planned on; empty for none.

    Raises:
        RunError: jinja2 is not installed.

    """
    titles, rows = cells(entrants, n_types=None)
    return template("compare").render(
        look=look,
        title=f"{len(entrants)} side by side" + (f": {model}" if model else ""),
        chart=lineup_chart(entrants),
        titles=[(title.lstrip("?>"), ">" in title[:2]) for title in titles],
        rows=rows,
        grids=(
            ("parts", "By part", _grid(entrants, lambda name: name_parts(name).part)),
            ("layers", "By layer", _grid(entrants, _layer)),
        ),
        scale=BPW_KEY,
    )


def _layer(name: str) -> int | None:
    return name_parts(name).layer


def _grid(entrants: Sequence[Entrant], column_of: Callable[[str], str | int | None]) -> Grid:
    """Of all tensors with more than one dimension whose name has such a column."""
    found = [_columns(entrant, column_of) for entrant in entrants]
    every = list(dict.fromkeys(column for columns in found for column in columns))
    if all(isinstance(column, int) for column in every):
        every.sort()
    rows = tuple(
        (entrant.label, tuple(_square(entrant.label, column, columns.get(column, [])) for column in every))
        for entrant, columns in zip(entrants, found, strict=True)
    )
    return Grid(tuple(map(str, every)), rows)


def _columns(entrant: Entrant, column_of: Callable[[str], str | int | None]) -> dict[str | int, list[Entry]]:
    found: dict[str | int, list[Entry]] = defaultdict(list)
    for name, entry in entrant.side.entries.items():
        column = column_of(name)
        if column is not None and entry.shape and entry.nbytes is not None and prod(entry.shape[1:]) > 1:
            found[column].append(entry)
    return found


def _square(label: str, column: str | int, entries: Sequence[Entry]) -> Square:
    where = f"{label}, {f'layer {column}' if isinstance(column, int) else column}"
    n_weights = sum(prod(e.shape or ()) for e in entries)
    if not n_weights:
        return Square(-1, "", f"{where}: not there, or of unknown size")
    bpw = 8 * sum(e.nbytes or 0 for e in entries) / n_weights
    types = ", ".join(f"{n} {name}" for name, n in Counter(e.type for e in entries).most_common())
    return Square(step_of(bpw), mark(bpw), f"{where}: {bpw:.3f} bpw; {types}")
