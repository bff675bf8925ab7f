"""A solved recipe in figures, and the curve of sizes."""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.report.plan import sizes
from qxmix.report.text import human_nbytes, table, wrapped
from qxmix.solve.comment import percent
from qxmix.solve.curve import CurvePoint
from qxmix.solve.make import Solved
from qxmix.solve.predict import Predictor

_SAID = {
    "measured": "",
    "errors": " (a guess: sensitivities were not measured)",
    "outside": " (a guess: sensitivities are another tool's)",
    "guess": " (a guess: nothing of this model was measured)",
}


def solved_text(solved: Solved, *, terminal: bool = False) -> str:
    """Size, predicted divergence, bound, and what more size would buy."""
    plan, solution = solved.plan, solved.solution
    now = solved.predictor.total(solved.loss)
    lines = [
        f"Output       {sizes(plan.file_nbytes)}, {plan.file_nbytes:,} bytes{_of_budget(solved)}",
        f"Bits/weight  {plan.bpw:.4f} over all tensors",
        f"Predicted    {now.value:.5g} {solved.predictor.unit}, within {now.low:.3g} and {now.high:.3g}"
        + _SAID[solved.predictor.basis],
        (
            f"Optimality   {percent(solution.loss, solution.bound)} above the bound of the linear relaxation, at most "
            f"{100 * solution.gap:.2g} % above the best choice"
        ),
    ]
    if solved.following is not None and solved.following.loss < solution.loss:
        settled = solved.loss - solution.loss
        then = solved.predictor.total(solved.following.loss + settled)
        more = human_nbytes(solved.following.nbytes - solution.nbytes)
        lines.append(f"Next 1 %     {more} more would take {percent(now.value, then.value, now.value)} off it")
    return "\n".join(wrapped(line, terminal=terminal) for line in lines)


def curve_text(points: Sequence[CurvePoint], predictor: Predictor, *, terminal: bool = False) -> str:
    """A line for each point."""
    rows = [
        (
            f"{p.nbytes:,}", human_nbytes(p.nbytes), f"{p.bpw:.3f}", f"{p.predicted.value:.5g}",
            f"{p.predicted.low:.3g} to {p.predicted.high:.3g}", f"{100 * p.next_percent:.2f} %",
        )
        for p in points
    ]  # fmt: skip
    title = f">predicted, {predictor.unit}"
    told = _SAID[predictor.basis].strip(" ()")
    titles = ("?>bytes", ">size", ">bpw", title, "?within", ">next 1 % of size takes off")
    return table(titles, rows, terminal=terminal) + (f"\n\n{told[0].upper()}{told[1:]}." if told else "")


def _of_budget(solved: Solved) -> str:
    nbytes = solved.request.budget.nbytes
    return "" if nbytes is None else f", {100 * solved.plan.file_nbytes / nbytes:.3f} % of what was asked"
