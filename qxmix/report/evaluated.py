"""What an engine found of files: as a table, as JSON, and against their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.quants import Engine
from qxmix.report.chart import Chart, Point, chart
from qxmix.report.text import table
from qxmix.solve.predict import UNITS

if TYPE_CHECKING:
    from qxmix.engines.embed import Embedded
    from qxmix.engines.evaluate import Evaluated


def embedded_object(result: Embedded, engine: Engine) -> dict[str, object]:
    """One entry of the JSON list for an encoder."""
    scores = {key: value for key, value in asdict(result).items() if key != "path"}
    return {"file": str(result.path), "engine": engine} | scores


def embedded_text(results: Sequence[Embedded], *, terminal: bool) -> str:
    """A table of encoders."""
    titles = ["file", "?>bytes", ">lines", ">mean 1 - cosine", "?>+-", ">median", "?>99 %"]
    rows = []
    for r in results:
        figures = (r.mean_distance, r.mean_distance_error, r.median_distance, r.distance_99)
        rows.append([str(r.path), f"{r.nbytes:,}", f"{r.n_lines:,}", *(f"{value:.6f}" for value in figures)])
    return table(titles, rows, terminal=terminal)


def as_object(result: Evaluated, engine: Engine) -> dict[str, object]:
    """One entry of the JSON list; what needs a base is left out where there is none."""
    scores = {key: value for key, value in result.summary._asdict().items() if value is not None}
    base = {"base_ppl": result.base.ppl} if result.base else {}
    return {"file": str(result.path), "nbytes": result.nbytes, "engine": engine} | scores | base


def results_text(results: Sequence[Evaluated], base: Path | None, *, terminal: bool) -> str:
    """A table: the base, the files."""
    titles = ["file", "?>bytes", ">PPL", "?>+-"]
    rows = []
    if base and results[0].base:
        titles += [">mean KLD", "?>+-", ">median", "?>99 %", ">same top %", "?>RMS dp %"]
        of_base = results[0].base
        rows.append([f"{base} (base)", "", f"{of_base.ppl:.4f}", f"{of_base.ppl_error:.4f}", *[""] * 6])
    for result in results:
        s = result.summary
        row = [str(result.path), f"{result.nbytes:,}", f"{s.ppl:.4f}", f"{s.ppl_error:.4f}"]
        kld = (s.mean_kld, s.mean_kld_error, s.median_kld, s.kld_99)
        row += [f"{value:.5f}" for value in kld if value is not None]
        row += [f"{value:.2f}" for value in (s.same_top_percent, s.rms_p_diff_percent) if value is not None]
        rows.append(row)
    return table(titles, rows, terminal=terminal)


def results_chart(results: Sequence[Evaluated]) -> Chart | None:
    """Divergence, or without a base perplexity, against size."""
    labels = _labels([r.path for r in results])
    points, unit = [], ""
    for result, label in zip(results, labels, strict=True):
        s = result.summary
        unit = "perplexity" if s.mean_kld is None else UNITS["kld"]
        loss, error = (s.ppl, s.ppl_error) if s.mean_kld is None else (s.mean_kld, s.mean_kld_error or 0.0)
        points.append(Point(label, result.nbytes, loss, loss - error, loss + error))
    return chart(points, (), unit, fewest=1)


def embedded_chart(results: Sequence[Embedded]) -> Chart | None:
    """Distance of embeddings against size."""
    labels = _labels([r.path for r in results])
    points = [
        Point(
            label,
            r.nbytes,
            r.mean_distance,
            r.mean_distance - r.mean_distance_error,
            r.mean_distance + r.mean_distance_error,
        )
        for r, label in zip(results, labels, strict=True)
    ]
    return chart(points, (), UNITS["cosine"], fewest=1)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Names of files; whole paths where two files have the same name."""
    n_of = Counter(path.name for path in paths)
    return [path.name.removesuffix(".gguf") if n_of[path.name] == 1 else str(path) for path in paths]
