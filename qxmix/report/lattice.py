"""Lattices that were found, as text with the rules that keep them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qxmix.quants import get
from qxmix.recipe.categories import part_of
from qxmix.report.groups import layer_ranges
from qxmix.report.text import table, wrapped

if TYPE_CHECKING:
    from qxmix.measurement.lattice import Kept, Lattice


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


def kept_text(kept: tuple[Kept, ...], *, terminal: bool = False) -> str:
    """A line for each part, lattice and type of an output: how many whole numbers are lost, and how far weights are."""
    groups: dict[tuple[str, str, str, bool], list[Kept]] = {}
    for one in kept:
        key = part_of(one.lattice.tensor), one.lattice.what, one.type, one.n_lost > 0
        groups.setdefault(key, []).append(one)
    rows = [
        (
            part, layer_ranges([k.lattice.tensor for k in of]), f"{len(of):,}", what, kind, _lost_text(of),
            f"{max(k.farthest_steps for k in of):.3g}", _units_text(of),
        )
        for (part, what, kind, _), of in groups.items()
    ]  # fmt: skip
    titles = ("tensors", "layers", ">n", "lattice", "type", ">lost", ">steps", ">last places")
    whole = sum(k.n_lost == 0 for k in kept)
    lines = [f"Every whole number is kept of {whole:,} of {len(kept):,} tensors on a lattice:", ""]
    lines += [table(titles, rows, terminal=terminal), ""]
    note = "steps, last places: the largest distance of a weight from the model's, in steps of its lattice and in units"
    return "\n".join([*lines, wrapped(f"{note} in the last place of a bfloat16 of its size", terminal=terminal)])


def _lost_text(kept: list[Kept]) -> str:
    lost, n = sum(k.n_lost for k in kept), sum(k.n_weights for k in kept)
    if not lost:
        return "none"
    return f"{lost:,} of {n:,}" + (", as meant" if all(k.meant for k in kept) else "")


def _units_text(kept: list[Kept]) -> str:
    units = [k.farthest_units for k in kept if k.farthest_units is not None]
    return f"{max(units):.3g}" if units else "-"


def kept_json(kept: Kept) -> dict[str, object]:
    """One tensor as plain data, as in ``schemas/verify.schema.json``."""
    return {
        "tensor": kept.lattice.tensor,
        "lattice": kept.lattice.what,
        "type": kept.type,
        "n_weights": kept.n_weights,
        "n_lost": kept.n_lost,
        "farthest_steps": kept.farthest_steps,
        "farthest_units": kept.farthest_units,
        "meant": kept.meant,
    }


def _rule(kind: str, names: list[str]) -> str:
    """A rule for tensors that differ in their layer alone."""
    search = ", search: exhaustive" if get(kind).heeds("exhaustive") else ""
    pattern, layers = re.escape(names[0]), layer_ranges(names)
    if layers:
        pattern = re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", pattern, count=1)
    where = f', layers: "{layers}"' if layers else ""
    return f"  - {{match: '^{pattern}$'{where}, type: {kind.lower()}{search}}}"
