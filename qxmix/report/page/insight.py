"""What a plan is predicted to lose, for its page: where, and beside the stock mixes and the best at each size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qxmix.plan import Plan, Split, make_plan
from qxmix.quants import get
from qxmix.recipe import load_recipe
from qxmix.report.chart import Chart, Point, chart
from qxmix.solve.attribute import Attribution, attribute
from qxmix.solve.base import unruled
from qxmix.solve.curve import curve
from qxmix.solve.request import Budget, Limits, Request

if TYPE_CHECKING:
    from qxmix.solve.predict import Predictor

_STOCK = ("iq2_s", "iq3_xxs", "q3_k_m", "iq4_xs", "q4_k_m", "q5_k_m", "q6_k")
"""Mixes that people know, from small to large."""
_N_POINTS = 12


@dataclass(frozen=True, slots=True)
class Insight:
    """The prediction for a plan."""

    found: Attribution
    predictor: Predictor
    shares: dict[str, float]
    """Of the divergence, by tensor."""
    chart: Chart | None
    """Size against divergence; None where there is nothing to compare with."""


def insight_of(plan: Plan, predictor: Predictor, types: Sequence[str]) -> Insight:
    """What there is to say of a plan.

    Args:
        plan: The plan.
        predictor: Of its model.
        types: Candidates of the best choice at each size.

    """
    found = attribute(plan, predictor)
    here = _point(plan, found)
    points = [here, *_stock_points(plan, predictor)]
    best = [Point("best", p.nbytes, p.predicted.value) for p in curve(_request(plan, types), predictor, _N_POINTS)]
    least, most = min(p.nbytes for p in points) / 2, 2 * max(p.nbytes for p in points)
    near = [p for p in best if least <= p.nbytes <= most]
    return Insight(found, predictor, {p.name: p.share for p in found.tensors}, chart(points, near, predictor.unit))


def _request(plan: Plan, types: Sequence[str]) -> Request:
    loadable = tuple(t for t in types if all(e in get(t).engines for e in plan.recipe.engines))
    base = replace(unruled(plan.recipe.target), keep=plan.recipe.keep)
    return Request(plan.header, plan.imatrix, base, Budget(), loadable, Limits(), Split(), "best")


def _stock_points(plan: Plan, predictor: Predictor) -> Iterator[Point]:
    engine = "llama.cpp" if plan.recipe.target == "any" else plan.recipe.target
    for name in _STOCK:
        recipe = load_recipe(f"{engine}/{name}")
        if recipe.sha256 == plan.recipe.sha256:
            continue
        mix = make_plan(recipe, plan.header, plan.imatrix)
        found = attribute(mix, predictor)
        if not found.unknown:
            yield _point(mix, found)


def _point(plan: Plan, found: Attribution) -> Point:
    now = found.predicted
    return Point(plan.recipe.name, plan.file_nbytes, now.value, now.low, now.high, predicted=True)
