"""The solver: a request and what is predicted in, a recipe and its plan out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.container.gguf_format import pad
from qxmix.errors import PlanError
from qxmix.plan import Plan, PlannedTensor, make_plan
from qxmix.planning.facts import model_facts
from qxmix.planning.kept import Why
from qxmix.recipe.load import load_recipe_text
from qxmix.recipe.model import KEEP
from qxmix.solve.comment import comment_lines
from qxmix.solve.few import solve_alike, solve_few
from qxmix.solve.items import Choices, choices_of, share_of
from qxmix.solve.model import Item, Solution
from qxmix.solve.request import Request
from qxmix.solve.shares import Room
from qxmix.solve.write import Fate, recipe_text

if TYPE_CHECKING:
    from qxmix.solve.predict import Predictor

_MOST_PLANS = 4
"""Plans that are made to learn how long the header is, which holds the recipe."""
_NEAR = 2e-4
"""Share of the budget that is not worth another plan, when the recipe came out shorter than thought."""
_TEXT_NBYTES = 4096
"""A first guess at the recipe's length."""


Chooser = Callable[[Sequence[Item], Room], Solution | None]
"""From items and the bytes there are for them to one option of each; None where nothing fits."""


@dataclass(frozen=True, slots=True)
class Solved:
    """What was found."""

    request: Request
    predictor: Predictor
    choices: Choices
    room: Room
    """Bytes there were for the items."""
    solution: Solution
    following: Solution | None
    """With one percent more of everything; None where nothing is to be gained."""
    text: str
    """The recipe."""
    plan: Plan
    """Of the recipe."""

    @property
    def loss(self) -> float:
        """Predicted for all tensors, pinned ones included."""
        return self.solution.loss + settled_loss(self.choices, self.predictor)


def solve_recipe(
    request: Request, predictor: Predictor, source: tuple[str, ...], choose: Chooser | None = None
) -> Solved:
    """Find the recipe that loses least within the budget.

    Args:
        request: What is asked.
        predictor: What each type costs each tensor.
        source: Lines for the recipe's head: what it was made from, and how to make it again.
        choose: How options are chosen; None: so that they lose least.

    Raises:
        PlanError: no choice of types is small enough, or the limits leave a tensor none.

    """
    base_plan = make_plan(request.base, request.header, request.imatrix, request.split)
    choices = choices_of(request, base_plan, lambda t: predictor.losses(t, request.types))
    everything = sum(pad(t.nbytes, request.header.alignment) for t in base_plan.tensors)
    header_nbytes = base_plan.file_nbytes - everything - len(request.base.text.encode()) + _TEXT_NBYTES
    choose = choose or (lambda items, room: solve_few(items, room, request.limits.max_types))
    best: Solved | None = None
    for _ in range(_MOST_PLANS):
        found = _solved(request, predictor, choices, header_nbytes, source, choose)
        limit = request.budget.nbytes
        if limit is None:
            return found
        left = limit - found.plan.file_nbytes
        if left >= 0 and (best is None or found.plan.file_nbytes > best.plan.file_nbytes):
            best = found
        real = found.plan.file_nbytes - _settled_nbytes(choices, request) - found.solution.nbytes
        if (left >= 0 and header_nbytes - real <= limit * _NEAR) or real == header_nbytes:
            break
        header_nbytes = real
    if best is None:
        raise PlanError(f"no recipe found stays below {request.budget.nbytes:,} bytes, itself included; ask for more")
    return best


def _solved(
    request: Request,
    predictor: Predictor,
    choices: Choices,
    header_nbytes: int,
    source: tuple[str, ...],
    choose: Chooser,
) -> Solved:
    room = room_of(request, choices, header_nbytes)
    solution = choose(choices.items, room)
    if solution is None:
        raise PlanError(_too_small(request, choices, header_nbytes))
    following = solve_alike(choices.items, room.grown(1.01), solution, request.limits.max_types)
    types = {n: o.type for item, o in zip(choices.items, solution.chosen, strict=True) for n in item.names}
    fates = {t.name: Fate(types[t.name]) for t in choices.free}
    fates |= {t.name: _pinned(request, t) for t in choices.settled if t.rule is not None}
    order = [t.name for t in request.header.tensors if t.name in fates]
    head = comment_lines(request, predictor, choices, solution, following, source)
    n_layer = model_facts(request.header, has_imatrix=False)["n_layer"]
    assert isinstance(n_layer, int)
    n_weights = {t.name: t.n_weights for t in request.header.tensors}
    named = {n: fates[n] for n in order}
    text = recipe_text(named, n_weights, request.base, request.name, n_layer, head, request.use)
    recipe = load_recipe_text(text, f"{request.name}.yaml")
    plan = make_plan(recipe, request.header, request.imatrix, request.split)
    wrong = [t.name for t in plan.tensors if t.name in types and types[t.name] not in (t.type, KEEP)]
    assert not wrong, f"the recipe does not say what was chosen for {wrong[:3]}"
    return Solved(request, predictor, choices, room, solution, following, text, plan)


def _pinned(request: Request, tensor: PlannedTensor) -> Fate:
    assert tensor.rule is not None
    rule = request.base.rules[tensor.rule]
    words = ", force: true" if rule.force else ""
    words += f", search: {rule.search}" if rule.search not in (None, request.base.search) else ""
    return Fate(KEEP if tensor.kept is not None and tensor.kept.why is Why.RULE else tensor.type, words)


def room_of(request: Request, choices: Choices, header_nbytes: int) -> Room:
    """What the budgets leave for the items."""
    budget, shares = request.budget, request.budget.shares
    totals = []
    if budget.nbytes is not None:
        totals.append(budget.nbytes - header_nbytes - _settled_nbytes(choices, request))
    if budget.bpw is not None:
        n_weights = sum(t.n_weights for t in request.header.tensors)
        totals.append(int(budget.bpw * n_weights / 8) - sum(t.nbytes for t in choices.settled))
    spent = [0] * len(shares)
    for tensor in choices.settled:
        index = share_of(tensor.name, shares)
        if index is not None:
            spent[index] += pad(tensor.nbytes, request.header.alignment)
    left = tuple(share.nbytes - n for share, n in zip(shares, spent, strict=True))
    return Room(min(totals, default=None), left, tuple(share_of(item.names[0], shares) for item in choices.items))


def _settled_nbytes(choices: Choices, request: Request) -> int:
    return sum(pad(t.nbytes, request.header.alignment) for t in choices.settled)


def settled_loss(choices: Choices, predictor: Predictor) -> float:
    """What the tensors lose that the base recipe pins."""
    pinned = (t for t in choices.settled if t.action == "encode")
    return sum(predictor.loss(t.name, t.type) or 0.0 for t in pinned)


def _too_small(request: Request, choices: Choices, header_nbytes: int) -> str:
    least = sum(item.options[0].nbytes for item in choices.items) + _settled_nbytes(choices, request) + header_nbytes
    if request.limits.max_types is not None:
        return f"no {request.limits.max_types} types fit all tensors and the budget; raise --max-types, or the size"
    if request.budget.shares:
        return (
            f"a budget is too small for the smallest types of its tensors; in these all have {least:,} bytes together"
        )
    return (
        f"the smallest choice has {least:,} bytes, which is more than asked for; raise the size, or allow smaller types"
    )
