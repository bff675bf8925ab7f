"""Entrants of a comparison as a table, as Markdown, as JSON, and drawn."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qxmix.report.look import MARKERS, SERIES, pyplot, save_picture
from qxmix.report.text import table
from qxmix.solve.predict import UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qxmix.solve.lineup import Entrant

_SHOWN_TYPES = 4


def sorted_entrants(entrants: Sequence[Entrant], by: str) -> list[Entrant]:
    """By rising ``size``, ``divergence`` or ``name``; what is not known comes last."""

    def key(entrant: Entrant) -> tuple[bool, float | str]:
        if by == "name":
            return False, entrant.label
        value = entrant.nbytes if by == "size" else entrant.divergence
        return value is None, value or 0.0

    return sorted(entrants, key=key)


def lineup_text(entrants: Sequence[Entrant], *, terminal: bool = False) -> str:
    """One line for each."""
    titles, rows = cells(entrants)
    return table(titles, rows, terminal=terminal)


def lineup_markdown(entrants: Sequence[Entrant]) -> str:
    """The same for a model card."""
    titles, rows = cells(entrants)
    bare = [title.lstrip("?>") for title in titles]
    rule = ["---:" if ">" in title[:2] else "---" for title in titles]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (bare, rule, *escaped))


def lineup_json(entrants: Sequence[Entrant]) -> list[dict[str, object]]:
    """As schemas/compare.schema.json; what is not known is left out."""
    return [_object(entrant) for entrant in entrants]


def unit_of(entrants: Sequence[Entrant]) -> str:
    """Of their measured divergence; that of models that predict tokens where none was measured."""
    return UNITS["cosine" if any("mean_distance" in e.scores for e in entrants) else "kld"]


def draw_lineup(entrants: Sequence[Entrant], path: Path) -> None:
    """Divergence against size, measured where it was measured, with the interval of what was predicted.

    Raises:
        RunError: matplotlib is missing, the file cannot be written, or there is nothing to draw.

    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    for i, entrant in enumerate(e for e in entrants if e.nbytes and e.divergence):
        assert entrant.nbytes is not None
        size, colour = entrant.nbytes / 1e6, SERIES[i % len(SERIES)]
        marker = MARKERS[i % len(MARKERS)]
        if entrant.predicted is not None:
            now = entrant.predicted
            below, above = now.value - now.low, now.high - now.value
            axes.errorbar(
                size, now.value, [[below], [above]], color=colour, marker=marker, mfc="none", capsize=3, lw=1, alpha=0.6
            )
        if entrant.measured is not None:
            axes.plot(size, entrant.measured, color=colour, marker=marker, ls="none")
        axes.annotate(entrant.label, (size, entrant.divergence), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("size, MB")
    axes.set_ylabel(f"divergence, {unit_of(entrants)} (filled: measured, open: predicted)")
    axes.set_yscale("log")
    save_picture(figure, path)
    plt.close(figure)


def cells(entrants: Sequence[Entrant]) -> tuple[list[str], list[list[str]]]:
    """Titles as :func:`table` takes them, and rows; columns of which nothing is known are left out."""
    columns: list[tuple[str, list[str]]] = [
        ("name", [e.label for e in entrants]),
        (">bytes", [_number(e.nbytes, ",") for e in entrants]),
        (">bpw", [_number(e.side.bpw, ".3f") for e in entrants]),
        ("?types", [_types(e) for e in entrants]),
        ("?>fallbacks", [_number(e.side.n_fallbacks, ",") for e in entrants]),
        (">predicted", [_predicted(e) for e in entrants]),
        (">mean KLD", [_score(e, "mean_kld", ".5f") for e in entrants]),
        ("?>+-", [_score(e, "mean_kld_error", ".5f") for e in entrants]),
        (">mean 1 - cosine", [_score(e, "mean_distance", ".6f") for e in entrants]),
        ("?>+-", [_score(e, "mean_distance_error", ".6f") for e in entrants]),
        (">PPL", [_score(e, "ppl", ".4f") for e in entrants]),
        ("?>written in", [_number(e.write_seconds, ".1f", " s") for e in entrants]),
    ]
    shown = [(title, cells) for title, cells in columns if any(cells)]
    return [title for title, _ in shown], [list(row) for row in zip(*(cells for _, cells in shown), strict=True)]


def _number(value: float | None, style: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{style}}{unit}"


def _types(entrant: Entrant) -> str:
    shown = [f"{n} {name}" for name, n in entrant.types.items()]
    more = f", {len(shown) - _SHOWN_TYPES} more" if len(shown) > _SHOWN_TYPES else ""
    return ", ".join(shown[:_SHOWN_TYPES]) + more


def _predicted(entrant: Entrant) -> str:
    now = entrant.predicted
    return "" if now is None else f"{now.value:.4g} ({now.low:.2g} to {now.high:.2g})"


def _score(entrant: Entrant, key: str, style: str) -> str:
    return _number(entrant.scores.get(key), style)


def _object(entrant: Entrant) -> dict[str, object]:
    predicted = None if entrant.predicted is None else asdict(entrant.predicted)
    found: dict[str, object | None] = {
        "name": entrant.label,
        "nbytes": entrant.nbytes,
        "bpw": entrant.side.bpw,
        "types": dict(entrant.types),
        "n_fallbacks": entrant.side.n_fallbacks,
        "predicted": predicted,
        "measured": dict(entrant.scores) or None,
        "write_seconds": entrant.write_seconds,
    }
    return {key: value for key, value in found.items() if value is not None}
