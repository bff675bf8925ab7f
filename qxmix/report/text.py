"""Numbers and tables as text: plain and aligned anywhere, drawn by rich on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_FOLDED = 12
"""Cells up to this length are not folded."""
_NARROWEST = 4
"""Characters down to which a text is folded before a table gets wider than the terminal."""
_GAP = 2
"""Blanks between two columns."""


def human_nbytes(nbytes: int) -> str:
    """``1.22 GiB``; three significant digits, exact below 1 KiB."""
    value, unit = float(nbytes), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    if unit == 0:
        return f"{nbytes} byte" if nbytes == 1 else f"{nbytes} bytes"
    digits = max(0, 3 - len(str(int(value))))
    return f"{value:.{digits}f} {_UNITS[unit]}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown; titles as :func:`table` takes them."""
    rule = ["---:" if ">" in title[:2] else "---" for title in titles]
    lines = ([title.lstrip("?>") for title in titles], *rows)
    # A name may hold anything; a table only breaks on these.
    cells = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:]))


def wrapped(text: str, *, terminal: bool) -> str:
    """On a terminal lines broken between words, with what follows indented; else as they are."""
    if not terminal:
        return text
    # Only a terminal needs it, and importing it costs as much as a small plan.
    from shutil import get_terminal_size  # noqa: PLC0415
    from textwrap import wrap  # noqa: PLC0415

    width = get_terminal_size().columns
    options: dict[str, Any] = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return "\n".join("\n".join(wrap(line, width, **options)) for line in text.split("\n"))


def is_longer_than_screen(text: str) -> bool:
    """Whether its beginning is out of sight on a terminal once its end is shown."""
    from shutil import get_terminal_size  # noqa: PLC0415 - as above

    return text.count("\n") >= get_terminal_size().lines - 2


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool = False) -> str:
    """Lay out rows of cells under titles.

    Args:
        titles: One per column; a leading ``>`` aligns the column to the right, and a ``?`` before that lets a narrow
            terminal go without it.
        rows: Cells, as many as titles.
        terminal: Draw it for a terminal, with rich; else plain columns two spaces apart.

    Returns:
        Lines without a newline at the end.

    """
    columns = [
        _Column(t.lstrip("?>"), [row[i] for row in rows], t.startswith("?"), ">" in t[:2]) for i, t in enumerate(titles)
    ]
    if terminal:
        return _drawn(columns)
    widths = [max(map(len, (c.title, *c.cells))) for c in columns]
    lines = zip(*((c.title, *c.cells) for c in columns), strict=True)
    return "\n".join(_line(line, widths, [c.at_right for c in columns]) for line in lines)


class _Column(NamedTuple):
    """One column of a table."""

    title: str
    cells: Sequence[str]
    optional: bool
    at_right: bool

    @property
    def longest(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, self.cells), default=0)

    @property
    def least_width(self) -> int:
        """Characters below which it cannot be read: short cells stay whole, long ones and titles may be folded."""
        if self.at_right:
            # A number that goes on in the next line is another number.
            return max(max(map(len, self.title.split()), default=0), self.longest)
        folded = min(max(_FOLDED, self.longest // 3), 2 * _FOLDED)
        return max(max(map(len, self.title.split()), default=0), min(folded, self.longest))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
    return (" " * _GAP).join(padded).rstrip()


def _fitting(columns: list[_Column], width: int) -> list[tuple[_Column, int]]:
    """The columns and their widths, without the last of the optional ones until the others can be read in ``width``."""
    kept = list(columns)
    while True:
        # The first column is a name and is never folded.
        least = [max(c.longest, c.least_width) if c is columns[0] else c.least_width for c in kept]
        last = next((c for c in reversed(kept) if c.optional), None)
        if last is None or sum(least) + _GAP * (len(kept) - 1) <= width:
            break
        kept.remove(last)
    widths = [max(len(c.title), c.longest) for c in kept]
    while sum(widths) + _GAP * (len(kept) - 1) > width:
        reducible = [i for i in range(len(kept)) if widths[i] > least[i]]
        if not reducible:
            # Names and sentences are folded as far as need be, numbers never.
            reducible = [i for i in range(len(kept)) if not kept[i].at_right and widths[i] > _NARROWEST]
        if not reducible:
            break
        widths[max(reducible, key=lambda i: widths[i])] -= 1
    return list(zip(kept, widths, strict=True))


def _drawn(columns: list[_Column]) -> str:
    # rich takes 0.1 s to import; a pipe must not pay for it.
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(force_terminal=True)
    shown = _fitting(columns, console.width)
    console.width = max(console.width, sum(width for _, width in shown) + _GAP * len(shown))
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in shown:
        drawn.add_column(column.title, justify="right" if column.at_right else "left", overflow="fold", width=width)
    for row in zip(*(c.cells for c, _ in shown), strict=True):
        drawn.add_row(*map(Text, row))
    with console.capture() as capture:
        console.print(drawn)
    # The box leaves lines of blanks above and below.
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(line for line in lines if line)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    return f"{seconds:.0f} s" if minutes < 1 else f"{minutes} min" if minutes < 90 else f"{hours} h"  # noqa: PLR2004
