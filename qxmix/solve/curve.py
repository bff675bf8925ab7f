"""The least predicted loss at every size: one sort answers for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qxmix.container.gguf_format import pad
from qxmix.plan import make_plan
from qxmix.solve.items import choices_of
from qxmix.solve.make import settled_loss
from qxmix.solve.relax import relax, staircase
from qxmix.solve.request import Request

if TYPE_CHECKING:
    from qxmix.solve.predict import Prediction, Predictor

_N_POINTS = 24


class CurvePoint(NamedTuple):
    """The best there is at a size."""

    nbytes: int
    """Of the file, but for the length of its recipe."""
    bpw: float
    predicted: Prediction
    next_percent: float
    """Share of the divergence that one percent more bytes would take off."""


def curve(request: Request, predictor: Predictor, n_points: int = _N_POINTS) -> list[CurvePoint]:
    """Points from the smallest to the largest choice, at equal ratios of size.

    Each is the whole-tensor solution of the relaxation, which is at most one step away from the best.
    """
    base = make_plan(request.base, request.header, request.imatrix, request.split)
    choices = choices_of(request, base, lambda t: predictor.losses(t, request.types))
    pinned = settled_loss(choices, predictor)
    stairs = staircase(choices.items)
    settled = sum(pad(t.nbytes, request.header.alignment) for t in choices.settled)
    headers = sum(len(f.header) for f in base.files)
    n_weights = max(1, sum(t.n_weights for t in request.header.tensors))
    least, most = stairs.nbytes + settled, (stairs.ends_nbytes or (stairs.nbytes,))[-1] + settled
    points = []
    for i in range(n_points):
        nbytes = round(least * (most / least) ** (i / (n_points - 1)))
        here, more = relax(stairs, nbytes - settled), relax(stairs, int(1.01 * nbytes) - settled)
        if here is None or more is None:
            continue
        now, then = predictor.total(here.loss + pinned), predictor.total(more.loss + pinned)
        saved = 1 - then.value / now.value if now.value > 0 else 0.0
        points.append(CurvePoint(here.nbytes + settled + headers, 8 * (here.nbytes + settled) / n_weights, now, saved))
    return list({p.nbytes: p for p in points}.values())
