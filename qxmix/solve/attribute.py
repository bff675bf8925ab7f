"""Where the predicted loss of a plan comes from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from qxmix.plan import Plan
from qxmix.recipe.categories import category_of

if TYPE_CHECKING:
    from qxmix.solve.predict import Prediction, Predictor


class Part(NamedTuple):
    """A tensor, or all of a category."""

    name: str
    n_tensors: int
    nbytes: int
    share: float
    """Of the whole plan's loss."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The predicted loss of a plan and its parts."""

    predicted: Prediction
    loss: float
    """Sum over the tensors, before calibration."""
    categories: tuple[Part, ...]
    """Largest share first."""
    tensors: tuple[Part, ...]
    """All that are encoded, largest share first."""
    unknown: tuple[str, ...]
    """Encoded tensors to types of which nothing is known; they are not in the sum."""
    guessed: tuple[str, ...]
    """Those that were measured, though not in their type."""


def attribute(plan: Plan, predictor: Predictor) -> Attribution:
    """Predict the loss of a plan, tensor by tensor."""
    losses = {t.name: predictor.loss(t.name, t.type) for t in plan.tensors if t.action == "encode"}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    total = sum(known.values())
    guessed = tuple(t.name for t in plan.tensors if t.name in known and predictor.is_guess(t.name, t.type))
    nbytes = {t.name: t.nbytes for t in plan.tensors}
    members: dict[str, list[str]] = defaultdict(list)
    for name in known:
        members[category_of(name)].append(name)

    def part(label: str, names: list[str]) -> Part:
        share = sum(known[n] for n in names) / total if total > 0 else 0.0
        return Part(label, len(names), sum(nbytes[n] for n in names), share)

    return Attribution(
        predictor.total(total, sum(known[name] for name in guessed)),
        total,
        tuple(sorted((part(c, names) for c, names in members.items()), key=lambda p: -p.share)),
        tuple(sorted((part(n, [n]) for n in known), key=lambda p: -p.share)),
        tuple(name for name, loss in losses.items() if loss is None),
        guessed,
    )
