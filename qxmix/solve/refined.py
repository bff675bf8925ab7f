"""A solved recipe after swaps on the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from qxmix.measure.score import Passage
from qxmix.solve.make import Solved, solve_recipe
from qxmix.solve.model import Item, Solution
from qxmix.solve.refine import Refined, refine
from qxmix.solve.shares import Room
from qxmix.solve.stage import ResidentStage

_TEXT_NBYTES = 512
"""Bytes that the recipe may grow by when layers of a part get types of their own."""


def refine_recipe(
    solved: Solved, source: tuple[str, ...], passage: Passage, n_tries: int, on_step: Callable[[int, int], None]
) -> tuple[Solved, Refined]:
    """Try swaps at constant size and write the recipe again.

    Args:
        solved: Where to start.
        source: Lines for the recipe's head.
        passage: The text that swaps are judged on.
        n_tries: How many swaps are tried.
        on_step: Called with the passes that are done and of all.

    Returns:
        The recipe, which is the old one where no swap is kept, and what was tried.

    Raises:
        RunError: the engine refuses the model, or dies.

    """
    request, total = solved.request, n_tries + 2
    room = replace(solved.room, total=None if solved.room.total is None else solved.room.total - _TEXT_NBYTES)
    limit = max(sum(o.nbytes for o in solved.solution.chosen), room.total or 0)
    room = room if room.total is None else replace(room, total=limit)
    done = count(1)

    def on_try() -> None:
        on_step(next(done), total)

    with ResidentStage(request.header, request.imatrix, passage, request.base.engines) as stage:
        stage.run_base()
        on_try()
        stage.settle({t.name: t.type for t in solved.plan.tensors if t.action == "encode"})
        found = refine(
            solved.choices.items, solved.solution.chosen, stage, n_tries=n_tries, fits=room.holds,
            # A base is multiplied with inputs that are not rounded.
            unseen=solved.predictor.input_loss, on_try=on_try,
        )  # fmt: skip
    if not found.n_kept:
        return solved, found
    told = (
        f"Refined on the model: {found.n_kept} of {found.n_tried} swaps kept, divergence on that text "
        f"{found.before:.5g} to {found.after:.5g}."
    )
    solution = solved.solution._replace(
        chosen=found.chosen,
        nbytes=sum(o.nbytes for o in found.chosen),
        loss=sum(o.loss for o in found.chosen),
        chosen_by=told,
    )

    def chosen(_items: Sequence[Item], _room: Room) -> Solution:
        return solution

    return solve_recipe(request, solved.predictor, source, chosen), found
