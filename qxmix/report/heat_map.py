"""Bits per weight of every part in every layer: what a terminal and a page draw as a heat map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from qxmix.planning.model import Plan, PlannedTensor
from qxmix.recipe.categories import name_parts

SCALE = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 16.0, 32.0)
"""Bits per weight at which a step of the colours begins; what is below the first is the first, too."""


class Cell(NamedTuple):
    """The tensors of one part in one layer."""

    tensors: tuple[PlannedTensor, ...]

    @property
    def bpw(self) -> float:
        """Bits per weight over them."""
        return 8 * sum(t.nbytes for t in self.tensors) / max(1, sum(t.source.n_weights for t in self.tensors))


class HeatMap(NamedTuple):
    """Parts down, layers across."""

    parts: tuple[str, ...]
    """In the order of the file."""
    layers: tuple[int, ...]
    """The layers that there are, ascending."""
    cells: dict[tuple[str, int], Cell]
    """What a part has in a layer; nothing where it has no tensor there."""
    outside: tuple[PlannedTensor, ...]
    """Tensors of no layer."""


def heat_map(plan: Plan) -> HeatMap:
    """The map of all tensors with more than one dimension; norms and biases are too small to matter."""
    found: dict[tuple[str, int], list[PlannedTensor]] = defaultdict(list)
    outside = []
    for tensor in plan.tensors:
        if len(tensor.source.shape) < 2 or tensor.source.n_rows < 2:  # noqa: PLR2004 - a vector
            continue
        name = name_parts(tensor.name)
        if name.layer is None:
            outside.append(tensor)
        else:
            found[name.part, name.layer].append(tensor)
    parts = tuple(dict.fromkeys(part for part, _ in found))
    layers = tuple(sorted({layer for _, layer in found}))
    return HeatMap(parts, layers, {key: Cell(tuple(ts)) for key, ts in found.items()}, tuple(outside))


def step_of(bpw: float) -> int:
    """Index into ``SCALE`` of the step that ``bpw`` belongs to."""
    return max(0, sum(bpw >= edge for edge in SCALE) - 1)


def mark(bpw: float) -> str:
    """One character for bits per weight: the digit that the types' names have, ``H`` for 16 bits, ``F`` for 32."""
    if bpw < 10:  # noqa: PLR2004 - two digits do not fit
        return str(int(bpw))
    return "H" if bpw < SCALE[-1] else "F"


_COLOURS = (53, 54, 61, 67, 73, 79, 113, 185, 229)
"""Of ``SCALE``, in the 256 colours of a terminal: viridis, dark to light."""
_DARK = 5
"""Steps whose colour needs light text."""
_ABSENT = "."


def map_text(plan: Plan, *, width: int, colour: bool) -> str:
    """The heat map in characters.

    Args:
        plan: The plan.
        width: Columns of the terminal.
        colour: Whether to colour the background by bits per weight; the characters say the same without.

    Returns:
        Lines without a newline at the end.

    """
    found = heat_map(plan)
    longest = max((len(name) for name in (*found.parts, *(t.name for t in found.outside))), default=0)
    label = max(8, min(longest, width // 3))
    room = max(1, width - label - 1)
    lines = []
    for start in range(0, len(found.layers), room):
        band = found.layers[start : start + room]
        lines += ["", *_ruler(band, label)]
        for part in found.parts:
            cells = [found.cells.get((part, layer)) for layer in band]
            if any(cells):
                lines.append(_shortened(part, label) + " " + _row(cells, colour=colour))
    if found.outside:
        lines.append("")
        lines += [
            f"{_shortened(t.name, label)} {_painted_mark(Cell((t,)).bpw, colour=colour)} {t.type}"
            for t in found.outside
        ]
    return "\n".join([*lines[1:], "", *_legend(found, width, colour=colour)])


def _ruler(band: Sequence[int], label: int) -> list[str]:
    """The number of the first layer and of every tenth, each above its column."""
    ruler = ""
    for i, layer in enumerate(band):
        free = i == 0 or (layer % 10 == 0 and len(ruler) < i)
        if free and i + len(str(layer)) <= len(band):
            ruler = ruler.ljust(i) + str(layer)
    return ["layer".ljust(label) + " " + ruler]


def _row(cells: Iterable[Cell | None], *, colour: bool) -> str:
    """Neighbours of one colour are painted at once."""
    runs = groupby(cells, key=lambda cell: None if cell is None else step_of(cell.bpw))
    pieces = []
    for step, run in runs:
        marks = "".join(_ABSENT if cell is None else mark(cell.bpw) for cell in run)
        pieces.append(marks if step is None else _painted(marks, step, colour=colour))
    return "".join(pieces)


def _painted(text: str, step: int, *, colour: bool) -> str:
    if not colour:
        return text
    ink = 231 if step < _DARK else 16
    return f"\x1b[48;5;{_COLOURS[step]};38;5;{ink}m{text}\x1b[0m"


def _painted_mark(bpw: float, *, colour: bool) -> str:
    return _painted(mark(bpw), step_of(bpw), colour=colour)


def _shortened(name: str, width: int) -> str:
    return name.ljust(width) if len(name) <= width else name[: width - 1] + "~"


def _legend(found: HeatMap, width: int, *, colour: bool) -> list[str]:
    """What each character stands for: the types behind it."""
    types: dict[str, dict[str, float]] = defaultdict(dict)
    tensors = [t for cell in found.cells.values() for t in cell.tensors] + list(found.outside)
    for tensor in sorted(tensors, key=lambda t: Cell((t,)).bpw):
        bpw = Cell((tensor,)).bpw
        types[mark(bpw)].setdefault(tensor.type, bpw)
    lines: list[str] = []
    for named in types.values():
        first = next(iter(named.values()))
        text = ", ".join(named)
        # The escape sequences take no columns, so the width is that of the bare text.
        bare = f"{mark(first)} {text}"
        shown = f"{_painted_mark(first, colour=colour)} {text}"
        if lines and len(bare) + _bare_length(lines[-1]) + 2 <= width:
            lines[-1] += f"  {shown}"
        else:
            lines.append(shown)
    return lines


def _bare_length(line: str) -> int:
    length, inside = 0, False
    for character in line:
        inside = inside or character == "\x1b"
        length += not inside
        inside = inside and character != "m"
    return length
