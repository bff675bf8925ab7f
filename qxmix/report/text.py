"""Numbers and tables as text: plain and aligned anywhere, drawn by rich on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def human_nbytes(nbytes: int) -> str:
    """``1.22 GiB``; three significant digits, exact below 1 KiB."""
    value, unit = float(nbytes), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    if unit == 0:
        return f"{nbytes} byte" if nbytes == 1 else f"{nbytes} bytes"
    digits = max(0, 3 - len(str(int(value))))
    return f"{value:.{digits}f} {_UNITS[unit]}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool = False) -> str:
    """Lay out rows of cells under titles.

    Args:
        titles: One per column; a leading ``>`` aligns the column to the right.
        rows: Cells, as many as titles.
        terminal: Draw it for a terminal, with rich; else plain columns two spaces apart.

    Returns:
        Lines without a newline at the end.

    """
    right = [t.startswith(">") for t in titles]
    titles = [t.removeprefix(">") for t in titles]
    if terminal:
        return _drawn(titles, rows, right)
    widths = [max(len(title), *(len(row[i]) for row in rows), 0) for i, title in enumerate(titles)]
    return "\n".join(_line(row, widths, right) for row in (titles, *rows))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
    return "  ".join(padded).rstrip()


def _drawn(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    # rich takes 0.1 s to import; a pipe must not pay for it.
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, (title, at_right) in enumerate(zip(titles, right, strict=True)):
        drawn.add_column(title, justify="right" if at_right else "left", overflow="fold", no_wrap=i == 0)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(force_terminal=True)
    with console.capture() as capture:
        console.print(drawn)
    # The box leaves lines of blanks above and below.
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(line for line in lines if line)
