"""Speeds that estimates of time go by, as a module of the package, made from the figures in ``results``.

``python -m tests.bench.report`` writes it, as it does the README's tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxmix.quants import QUANT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.report import Run

MODULE = Path(__file__).parents[2] / "qxmix" / "quants" / "measured.py"
_HEAD = '''"""How fast each type was encoded on one thread of a processor with AVX2; see :mod:`qxmix.quants.speeds`.

Written by ``python -m tests.bench.report``, from what ``tests.bench.kernels`` and ``tests.bench.feedback_speed`` have
measured; do not edit.
"""

from __future__ import annotations

MEASURED: dict[str, tuple[float, float | None, float | None, float | None]] = {
'''
_TAIL = '''}
"""Millions of weights per second with an importance, without one, by the exhaustive search, with error feedback."""
'''


def estimates(kernels: Run, feedback: Run) -> str:
    """The text of the module; an interleaved type takes as long as its base, and has no entry."""
    speeds = _by_type(kernels.results)
    fed = {name: speed["feedback"] for name, speed in _by_type(feedback.results).items()}
    lines = []
    for kind in QUANT_TYPES:
        speed = speeds.get(kind.name, {})
        if kind.base or "imatrix" not in speed:
            continue
        plain, weighted = speed.get("none", {}), speed["imatrix"]
        figures = weighted["qxmix"], plain.get("qxmix"), weighted.get("exhaustive"), fed.get(kind.name)
        lines.append(f'    "{kind.name}": ({", ".join(map(_short, figures))}),\n')
    return _HEAD + "".join(lines) + _TAIL


def _by_type(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {result["type"]: result["speed"] for result in results}


def _short(figure: float | None) -> str:
    """Three significant figures, as a formatter leaves them: ``9.83``, ``0.571``, ``120.0``."""
    return "None" if figure is None else repr(float(f"{figure:.3g}"))
