"""The page about a plan: its values as a template wants them, and the template filled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, NamedTuple

from qxmix.planning.model import Plan
from qxmix.quants import find
from qxmix.report import look
from qxmix.report.groups import group
from qxmix.report.heat_map import SCALE, Cell, HeatMap, heat_map, mark, step_of
from qxmix.report.page.squares import BPW_KEY, Square
from qxmix.report.page.template import template
from qxmix.report.plan import change, count_weights, decided_by, headline, sizes
from qxmix.report.running import running_text
from qxmix.report.text import human_nbytes
from qxmix.running.model import Running

if TYPE_CHECKING:
    from qxmix.report.page.insight import Insight


_SHOWN_SHARE = 0.01
"""Share of the divergence from which on a square shows its percents."""
_MOST_PRINTED = 150
"""Tensors up to which a printer gets the table of all; with more it gets the parts alone, instead of fifty sheets."""


class Bar(NamedTuple):
    """The bytes of one type: those it has, and those that were asked of it."""

    type: str
    n_tensors: int
    nbytes: int
    requested_nbytes: int
    share: float
    """Percent of all tensors' bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor in the table of all."""

    name: str
    shape: str
    source: str
    change: str
    nbytes: int
    bpw: float
    rule: str
    reason: str


def plan_page(plan: Plan, insight: Insight | None = None, use: Running | None = None) -> str:
    """The page as HTML.

    Args:
        plan: The plan.
        insight: What it is predicted to lose, where there is a measurement.
        use: What running it takes, where somebody says how.

    Raises:
        RunError: jinja2 is not installed.

    """
    found = heat_map(plan)
    return template("plan").render(
        look=look,
        title=f"{plan.recipe.name}: {plan.header.path.name}",
        headline=headline(plan),
        figures=[*_figures(plan), *(_predicted(insight) if insight else ())],
        losses=_losses(found, insight) if insight else (),
        insight=insight,
        problems=plan.problems,
        memory=running_text(use, terminal=False) if use else "",
        layers=found.layers,
        squares=[(part, _squares(found, part)) for part in found.parts],
        outside=[(t.name, _square(t.name, "", Cell((t,)))) for t in found.outside],
        scale=BPW_KEY,
        loss_scale=[(i, "\u00a0", f"{100 * 10 ** (i / 2 - 5):.2g} %") for i in range(len(SCALE))],
        outside_losses=_outside_losses(found, insight) if insight else (),
        groups=group(plan),
        change=change,
        most_printed=_MOST_PRINTED,
        bars=_bars(plan),
        rows=_rows(plan),
        recipe=plan.recipe.text,
        human_nbytes=human_nbytes,
    )


def _figures(plan: Plan) -> list[tuple[str, str]]:
    n_weights = sum(t.source.n_weights for t in plan.tensors)
    return [
        ("Size", f"{sizes(plan.file_nbytes)}, {plan.file_nbytes:,} bytes"),
        ("Bits per weight", f"{plan.bpw:.4f} over all tensors, {plan.quantized_bpw:.4f} over the encoded ones"),
        ("Weights", f"{count_weights(n_weights)} in {len(plan.tensors):,} tensors"),
        ("Target", "both engines" if plan.recipe.target == "any" else plan.recipe.target),
        ("Importance", plan.imatrix.path.name if plan.imatrix else "none"),
    ]


def _squares(found: HeatMap, part: str) -> list[Square]:
    return [_square(part, f" in layer {layer}", found.cells.get((part, layer))) for layer in found.layers]


def _square(part: str, where: str, cell: Cell | None) -> Square:
    if cell is None:
        return Square(-1, "", f"{part}{where}: no such tensor")
    changes = ", ".join(dict.fromkeys(change(t) for t in cell.tensors))
    nbytes = human_nbytes(sum(t.nbytes for t in cell.tensors))
    return Square(step_of(cell.bpw), mark(cell.bpw), f"{part}{where}: {changes}, {cell.bpw:.3f} bpw, {nbytes}")


def _predicted(insight: Insight) -> list[tuple[str, str]]:
    now = insight.found.predicted
    guess = "" if insight.predictor.basis == "measured" else "; a guess, sensitivities of this model were not measured"
    text = f"{now.value:.4g} {insight.predictor.unit}, within {now.low:.3g} and {now.high:.3g}{guess}"
    return [("Predicted divergence", text)]


def _losses(found: HeatMap, insight: Insight) -> list[tuple[str, list[Square]]]:
    """The map of what each square has of the divergence: a step for each tenfold."""

    def square(part: str, layer: int) -> Square:
        cell = found.cells.get((part, layer))
        share = sum(insight.shares.get(t.name, 0.0) for t in cell.tensors) if cell else 0.0
        return _loss(part, f" in layer {layer}", share)

    return [(part, [square(part, layer) for layer in found.layers]) for part in found.parts]


def _outside_losses(found: HeatMap, insight: Insight) -> list[tuple[str, Square]]:
    return [(t.name, _loss(t.name, "", insight.shares.get(t.name, 0.0))) for t in found.outside]


def _loss(part: str, where: str, share: float) -> Square:
    step = min(len(SCALE) - 1, max(0, round(2 * (log10(share) + 5)))) if share > 0 else -1
    text = f"{part}{where}: {100 * share:.3g} % of the divergence"
    return Square(step, f"{100 * share:.0f}"[:2] if share >= _SHOWN_SHARE else "", text)


def _bars(plan: Plan) -> list[Bar]:
    counts = Counter(t.type for t in plan.tensors)
    nbytes: Counter[str] = Counter()
    requested: Counter[str] = Counter()
    for tensor in plan.tensors:
        nbytes[tensor.type] += tensor.nbytes
        wanted = find(tensor.requested)
        asked = tensor.nbytes if wanted is None else wanted.bpw * tensor.source.n_weights / 8
        requested[tensor.requested] += round(tensor.nbytes if tensor.requested == tensor.type else asked)
    total = max(1, plan.data_nbytes)
    names = sorted({*nbytes, *requested}, key=lambda name: -max(nbytes[name], requested[name]))
    return [Bar(name, counts[name], nbytes[name], requested[name], 100 * nbytes[name] / total) for name in names]


def _rows(plan: Plan) -> list[Row]:
    return [
        Row(
            t.name,
            " x ".join(map(str, t.source.shape)),
            t.source_type,
            change(t),
            t.nbytes,
            8 * t.nbytes / max(1, t.source.n_weights),
            decided_by(plan, t),
            t.reason,
        )
        for t in plan.tensors
    ]
