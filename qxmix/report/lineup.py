"""Entrants of a comparison as a table, as Markdown, as JSON, and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qxmix.report.chart import Chart, Point, chart
from qxmix.report.running import SUMMARY, running_json, summary
from qxmix.report.text import markdown, table
from qxmix.solve.predict import UNITS

if TYPE_CHECKING:
    from qxmix.solve.lineup import Entrant


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
    return markdown(*cells(entrants))


def lineup_json(entrants: Sequence[Entrant]) -> list[dict[str, object]]:
    """As schemas/compare.schema.json; what is not known is left out."""
    return [_object(entrant) for entrant in entrants]


def unit_of(entrants: Sequence[Entrant]) -> str:
    """Of their measured divergence; that of models that predict tokens where none was measured."""
    return UNITS["cosine" if any("mean_distance" in e.scores for e in entrants) else "kld"]


def lineup_chart(entrants: Sequence[Entrant], *, fewest: int = 2) -> Chart | None:
    """Divergence against size: measured, with its standard error, and predicted, with what it is likely within."""
    points = [p for e in entrants if e.nbytes for p in _points(e, e.nbytes)]
    return chart(points, (), unit_of(entrants), fewest=fewest)


def _points(entrant: Entrant, nbytes: int) -> Iterator[Point]:
    if (loss := entrant.measured) is not None:
        error = entrant.scores.get("mean_kld_error", entrant.scores.get("mean_distance_error", 0.0))
        yield Point(entrant.label, nbytes, loss, loss - error, loss + error)
    if (now := entrant.predicted) is not None:
        yield Point(entrant.label, nbytes, now.value, now.low, now.high, predicted=True)


def cells(entrants: Sequence[Entrant], *, n_types: int | None = 4) -> tuple[list[str], list[list[str]]]:
    """Titles as :func:`table` takes them, and rows; columns of which nothing is known are left out.

    Of each entrant's types the first ``n_types`` are named, or all.
    """
    columns: list[tuple[str, list[str]]] = [
        ("name", [e.label for e in entrants]),
        (">bytes", [_number(e.nbytes, ",") for e in entrants]),
        (">bpw", [_number(e.side.bpw, ".3f") for e in entrants]),
        ("?types", [_types(e, n_types) for e in entrants]),
        ("?>fallbacks", [_number(e.side.n_fallbacks, ",") for e in entrants]),
        *zip(SUMMARY, map(list, zip(*(summary(e.running) for e in entrants), strict=True)), strict=False),
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


def _types(entrant: Entrant, n_types: int | None) -> str:
    named = [f"{n} {name}" for name, n in entrant.types.items()]
    shown = named[:n_types]
    more = [f"{len(named) - len(shown)} more"] if len(named) > len(shown) else []
    return ", ".join([*shown, *more])


def _predicted(entrant: Entrant) -> str:
    now = entrant.predicted
    return "" if now is None else f"{now.value:.4g} ({now.low:.2g} to {now.high:.2g})"


def _score(entrant: Entrant, key: str, style: str) -> str:
    return _number(entrant.scores.get(key), style)


def _object(entrant: Entrant) -> dict[str, object]:
    predicted = None if entrant.predicted is None else entrant.predicted._asdict()
    found: dict[str, object | None] = {
        "name": entrant.label,
        "nbytes": entrant.nbytes,
        "bpw": entrant.side.bpw,
        "types": dict(entrant.types),
        "n_fallbacks": entrant.side.n_fallbacks,
        "predicted": predicted,
        "running": None if entrant.running is None else running_json(entrant.running),
        "measured": dict(entrant.scores) or None,
        "write_seconds": entrant.write_seconds,
    }
    return {key: value for key, value in found.items() if value is not None}
