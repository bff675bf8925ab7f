"""Lattices that were found, as text with the rules that keep them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qxmix.quants import get
from qxmix.recipe.categories import part_of
from qxmix.report.groups import layer_ranges
from qxmix.report.text import table

if TYPE_CHECKING:
    from qxmix.measurement.lattice import Lattice


def lattices_text(found: tuple[Lattice, ...], n_looked_at: int, *, terminal: bool = False) -> str:
    """A line for each part and lattice, and the rules that keep them; a sentence where there is none."""
    if not found:
        return f"None of {n_looked_at:,} matrices of floats sits on a lattice of 2 to 8 bits."
    groups: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    for lattice in found:
        key = part_of(lattice.tensor), lattice.what, lattice.type, lattice.why
        groups.setdefault(key, []).append(lattice.tensor)
    rows = [
        (part, layer_ranges(names), f"{len(names):,}", what, kind or f"nothing: {why}")
        for (part, what, kind, why), names in groups.items()
    ]
    rules = [_rule(kind, names) for (_, _, kind, _), names in groups.items() if kind]
    lines = [f"{len(found):,} of {n_looked_at:,} matrices of floats sit on a lattice:", ""]
    lines.append(table(("tensors", "layers", ">n", "lattice", "kept whole by"), rows, terminal=terminal))
    if rules:
        lines += ["", "Rules that keep them, for a recipe:", *rules]
    return "\n".join(lines)


def _rule(kind: str, names: list[str]) -> str:
    """A rule for tensors that differ in their layer alone."""
    search = ", search: exhaustive" if get(kind).heeds("exhaustive") else ""
    pattern, layers = re.escape(names[0]), layer_ranges(names)
    if layers:
        pattern = re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", pattern, count=1)
    where = f', layers: "{layers}"' if layers else ""
    return f"  - {{match: '^{pattern}$'{where}, type: {kind.lower()}{search}}}"
