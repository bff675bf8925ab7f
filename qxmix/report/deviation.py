"""How far weights moved as text or JSON: tensor by tensor, and all of a category and of a type together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qxmix.execute.deviation import Deviation, Moved, total
from qxmix.recipe.categories import category_of
from qxmix.report.text import table

_N_TENSORS = 20
"""Tensors that are shown, where not all are asked for."""
_FIGURES = (">weighted RMSE", ">relative error", "?>cosine")


def deviations_text(moved: Sequence[Moved], *, every: bool = False, terminal: bool = False) -> str:
    """A line for each of the tensors with the largest relative error, or for all; one per category, one per type."""
    tensors = sorted(moved, key=lambda m: m.deviation.relative_error, reverse=True)
    rows = [(m.name, m.type, *_figures(m.deviation), _worst(m.deviation)) for m in tensors]
    shown = rows if every else rows[:_N_TENSORS]
    more = f"\n... and {len(rows) - len(shown):,} tensors with less; --json has all" if len(shown) < len(rows) else ""
    parts = [table(("tensor", "type", *_FIGURES, "?worst rows"), shown, terminal=terminal) + more]
    for title, key in (("category", _category), ("type", _type)):
        sums = [(name, f"{n:,}", *_figures(d)) for name, n, d in _together(moved, key)]
        parts.append(table((title, ">tensors", *_FIGURES), sums, terminal=terminal))
    return "\n\n".join(parts)


def deviations_json(output: str, source: str, moved: Sequence[Moved]) -> dict[str, object]:
    """The same as plain data; ``schemas/deviation.schema.json`` describes it."""
    return {
        "qxmix_deviation": 1,
        "output": output,
        "source": source,
        "tensors": [
            {"name": m.name, "source_type": m.source_type, "type": m.type, "deviation": deviation_json(m.deviation)}
            for m in moved
        ],
        "categories": [_sum_json("category", *row) for row in _together(moved, _category)],
        "types": [_sum_json("type", *row) for row in _together(moved, _type)],
    }


def deviation_json(d: Deviation) -> dict[str, object]:
    """One tensor's figures."""
    worst = [{"row": row, "relative_error": error} for error, row in d.worst]
    return {**_figures_json(d), "worst_rows": worst}


def _figures_json(d: Deviation) -> dict[str, object]:
    return {"weighted_rmse": d.weighted_rmse, "relative_error": d.relative_error, "cosine": d.cosine}


def _sum_json(title: str, name: str, n_tensors: int, d: Deviation) -> dict[str, object]:
    return {title: name, "n_tensors": n_tensors, **_figures_json(d)}


def _category(moved: Moved) -> str:
    return category_of(moved.name)


def _type(moved: Moved) -> str:
    return moved.type


def _together(moved: Sequence[Moved], key: Callable[[Moved], str]) -> list[tuple[str, int, Deviation]]:
    """Name, number of tensors and deviation of all weights of each kind, the largest relative error first."""
    kinds: dict[str, list[Deviation]] = {}
    for each in moved:
        kinds.setdefault(key(each), []).append(each.deviation)
    sums = [(name, len(parts), total(parts)) for name, parts in kinds.items()]
    return sorted(sums, key=lambda row: (-row[2].relative_error, row[0]))


def _figures(d: Deviation) -> tuple[str, str, str]:
    return f"{d.weighted_rmse:.3e}", f"{d.relative_error:.3%}", f"{d.cosine:.6f}"


def _worst(d: Deviation) -> str:
    return ", ".join(f"{row} ({error:.2%})" for error, row in d.worst[:2])
