"""What a recipe's rules buy, seen against what the same bytes would buy elsewhere in the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.errors import Place, Problem
from qxmix.plan import Plan, Split, make_plan
from qxmix.solve.base import unruled
from qxmix.solve.items import choices_of
from qxmix.solve.model import Item, Option
from qxmix.solve.relax import hull, relax, staircase
from qxmix.solve.request import Budget, Limits, Request

if TYPE_CHECKING:
    from qxmix.solve.predict import Predictor

_MUCH = 4.0
"""A rule is named when its bytes buy so many times less, or more, than bytes do elsewhere."""
_WORTH_SAYING = 0.01
"""Share of the loss, or of the bytes, that must be at stake."""


@dataclass(slots=True)
class _Step:
    """The tensors of a rule, all moved to the next type."""

    nbytes: int = 0
    """Bytes between the two."""
    loss: float = 0.0
    """Loss between the two."""
    n: int = 0


def worth(plan: Plan, predictor: Predictor, types: tuple[str, ...]) -> tuple[Problem, ...]:
    """Name the rules whose tensors would be better with fewer or with more bits, the size of the whole being the same.

    Args:
        plan: The plan.
        predictor: What each type costs each tensor.
        types: Those to compare with.

    """
    items = _items(plan, types, predictor)
    now = {t.name: t for t in plan.tensors}
    members = {name: item for item in items for name in item.names if now[name].action == "encode"}
    used = sum(now[name].nbytes for name in members)
    rest = sum(item.options[0].nbytes for item in items if item.names[0] not in members)
    relaxed = relax(staircase(items), used + rest)
    total = sum(predictor.loss(name, now[name].type) or 0.0 for name in members)
    if relaxed is None or relaxed.price <= 0 or total <= 0:
        return ()
    down: dict[int | None, _Step] = defaultdict(_Step)
    up: dict[int | None, _Step] = defaultdict(_Step)
    for name, item in members.items():
        tensor, loss = now[name], predictor.loss(name, now[name].type)
        if loss is None:
            continue
        smaller, larger = _neighbours(item, tensor.nbytes, loss)
        for option, steps in ((smaller, down), (larger, up)):
            if option is not None:
                step = steps[tensor.rule]
                step.nbytes += abs(tensor.nbytes - option.nbytes)
                step.loss += abs(loss - option.loss)
                step.n += 1
    found = [*_buys_little(plan, down, relaxed.price, total, used), *_costs_much(plan, up, relaxed.price, total)]
    return tuple(p for p in found if p.id not in plan.recipe.silence)


def _items(plan: Plan, types: tuple[str, ...], predictor: Predictor) -> tuple[Item, ...]:
    """One item per tensor, whatever the recipe says about it."""
    free = unruled(plan.recipe.target)
    request = Request(plan.header, plan.imatrix, free, Budget(), types, Limits(ties=()), Split(), "free")
    plan = make_plan(free, plan.header, plan.imatrix)
    return choices_of(request, plan, lambda t: predictor.losses(t, types)).items


def _neighbours(item: Item, nbytes: int, loss: float) -> tuple[Option | None, Option | None]:
    """The best options next below and next above in bytes, if they lose more and less."""
    kept = [item.options[i] for i in hull(item.options)]
    smaller = next((o for o in reversed(kept) if o.nbytes < nbytes and o.loss > loss), None)
    larger = next((o for o in kept if o.nbytes > nbytes and o.loss < loss), None)
    return smaller, larger


def _buys_little(
    plan: Plan, steps: dict[int | None, _Step], price: float, total: float, used: int
) -> Iterator[Problem]:
    for rule, step in steps.items():
        if step.loss * _MUCH < price * step.nbytes and step.nbytes > _WORTH_SAYING * used:
            text = (
                f"buys little: the next smaller types of its {_tensors(step.n)} would save {step.nbytes:,} bytes "
                f"and add {100 * step.loss / total:.2g} % to the predicted loss; {_elsewhere(step, price, total)}"
            )
            yield from _problem(plan, rule, text, "rule-buys-little")


def _costs_much(plan: Plan, steps: dict[int | None, _Step], price: float, total: float) -> Iterator[Problem]:
    for rule, step in steps.items():
        if step.loss > _MUCH * price * step.nbytes and step.loss > _WORTH_SAYING * total:
            text = (
                f"costs much: the next larger types of its {_tensors(step.n)} would take "
                f"{100 * step.loss / total:.2g} % off the predicted loss for {step.nbytes:,} bytes; "
                f"{_elsewhere(step, price, total)}"
            )
            yield from _problem(plan, rule, text, "rule-costs-much")


def _elsewhere(step: _Step, price: float, total: float) -> str:
    return f"elsewhere so many bytes take {100 * price * step.nbytes / total:.2g} % off it"


def _tensors(n: int) -> str:
    return "tensor" if n == 1 else f"{n:,} tensors"


def _problem(plan: Plan, rule: int | None, text: str, id_: str) -> Iterator[Problem]:
    where: str | Place = plan.recipe.rules[rule].where if rule is not None else plan.recipe.places["default"]
    if rule is None or id_ not in plan.recipe.rules[rule].silence:
        yield Problem(where, text, "note", id_)
