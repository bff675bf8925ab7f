"""The head of a solved recipe: what it was made for, what it is expected to be worth, and how to make it again."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import TYPE_CHECKING

from qxmix.quants import get
from qxmix.recipe.model import KEEP
from qxmix.recipe.sizes import size_text
from qxmix.solve.items import Choices
from qxmix.solve.model import Solution
from qxmix.solve.request import Request

if TYPE_CHECKING:
    from qxmix.running.model import Use
    from qxmix.solve.predict import Predictor

_BASES = {
    "measured": "",
    "errors": "GUESS: errors of types are measured, sensitivities are what is usual; measure with --text to know.",
    "outside": "GUESS: sensitivities are another tool's figures, errors of types what is usual.",
    "guess": "GUESS: nothing of this model was measured; errors and sensitivities are what is usual for others.",
}

_SAME = 1e-12
"""Relative difference of sums in other orders."""


def comment_lines(
    request: Request,
    predictor: Predictor,
    choices: Choices,
    solution: Solution,
    following: Solution | None,
    source: tuple[str, ...],
) -> list[str]:
    """The lines, without ``#``."""
    pinned = sum(predictor.loss(t.name, t.type) or 0.0 for t in choices.settled if t.action == "encode")
    now = predictor.total(solution.loss + pinned)
    nbytes = _data_nbytes(choices, solution)
    n_weights = sum(t.n_weights for t in request.header.tensors)
    bpw = 8 * nbytes / n_weights
    bound = solution.chosen_by or (
        f"Sum of losses at most {100 * solution.gap:.2g} % above the least there is, "
        f"{percent(solution.loss, solution.bound)} above the linear bound."
    )
    return [
        f"Solved for {_budget_text(request)}: {nbytes:,} bytes of tensors, {bpw:.4f} bits per weight.",
        *filter(None, [_BASES[predictor.basis]]),
        f"Predicted divergence {now.value:.4g} ({now.low:.2g} to {now.high:.2g}) {predictor.unit}.",
        bound,
        *_next(predictor, solution, following, pinned),
        *source,
    ]


def _budget_text(request: Request) -> str:
    """What was asked for, in words."""
    budget = request.budget
    parts = [f"{budget.nbytes:,} bytes"] if budget.nbytes is not None else []
    parts += [f"{budget.bpw:g} bits per weight"] if budget.bpw is not None else []
    if request.use is None:
        parts += [f"{s.selector.text if s.selector else 'rest'} {s.nbytes:,} bytes" for s in budget.shares]
    else:
        parts += _machine(request.use)
    return ", ".join(parts)


def _machine(use: Use) -> Iterator[str]:
    if use.vram:
        yield f"GPUs of {' and '.join(map(size_text, use.vram))}"
    if use.ram is not None:
        yield f"{size_text(use.ram)} of memory"
    yield f"a context of {use.n_ctx:,}"


def _next(predictor: Predictor, solution: Solution, following: Solution | None, pinned: float) -> Iterator[str]:
    """What the next percent of size would buy."""
    if following is None or following.loss >= solution.loss:
        yield "More size would buy nothing that these types can give."
        return
    now, then = (predictor.total(s.loss + pinned).value for s in (solution, following))
    more = following.nbytes - solution.nbytes
    yield f"The next 1 % of size ({more:,} bytes) would take {percent(now, then, of=now)} off it."


def percent(high: float, low: float, of: float | None = None) -> str:
    """How far ``high`` is above ``low``, as a share of ``of`` or of ``low``; none if that is rounding."""
    of = low if of is None else of
    return f"{100 * (high - low) / of:.2g} %" if of > 0 and not isclose(high, low, rel_tol=_SAME) else "0 %"


def _data_nbytes(choices: Choices, solution: Solution) -> int:
    """Bytes of all tensors, without padding."""
    types = {n: o.type for item, o in zip(choices.items, solution.chosen, strict=True) for n in item.names}
    free = (t.nbytes if types[t.name] == KEEP else get(types[t.name]).nbytes(t.shape) for t in choices.free)
    return sum(free) + sum(t.nbytes for t in choices.settled)
