"""The least loss on a machine: two budgets, of the GPUs and of memory, by what goes on which.

What goes to the GPUs first is settled (:func:`qxmix.running.parts.stages`), and how far it goes is not: each number of
layers there makes two budgets, and the one whose choice loses least is taken.  As placing takes all stages that fit,
what was planned for is what plan finds, or better; where several GPUs cannot share whole layers so well, or embeddings
that are the output count twice, the budget shrinks by what was lacking, until plan lacks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qxmix.errors import PlanError
from qxmix.plan import make_plan
from qxmix.planning.memory_limits import runs_of
from qxmix.running.cache import cache_of
from qxmix.running.compute import compute_estimate
from qxmix.running.model import Use
from qxmix.running.parts import key_of, stages
from qxmix.solve.few import ROUGHLY
from qxmix.solve.items import Choices, choices_of
from qxmix.solve.make import Solved, room_of, solve_recipe
from qxmix.solve.predict import Predictor
from qxmix.solve.request import Names, Request, Share
from qxmix.solve.shares import solve_within

_MOST_TRIES = 8
"""Times that budgets shrink."""
_COARSE = 8
"""Of so many cuts one is tried at first."""
_ENOUGH = 1 << 60
"""Bytes, where nobody says how many."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is on the GPUs, and the bytes of weights that there are for it and for the rest."""

    names: frozenset[str]
    gpus: int
    ram: int | None

    def shares(self) -> tuple[Share, ...]:
        """Budgets of the two."""
        return Share(Names("GPUs", self.names), self.gpus), Share(None, _ENOUGH if self.ram is None else self.ram)

    def shrunk(self, vram: int, ram: int) -> _Cut:
        """With so many bytes less."""
        return replace(self, gpus=self.gpus - vram, ram=None if self.ram is None else self.ram - ram)


def solve_for_machine(request: Request, predictor: Predictor, source: tuple[str, ...]) -> Solved:
    """Find the recipe that loses least and runs on a machine, ``request.use``.

    Raises:
        PlanError: no choice of types is small enough.

    """
    cut = _best(_cuts(request), request, predictor)
    for _ in range(_MOST_TRIES):
        found = solve_recipe(replace(request, budget=replace(request.budget, shares=cut.shares())), predictor, source)
        lacking = _lacking(found)
        if not any(lacking):
            return found
        cut = cut.shrunk(*lacking)
    raise PlanError("no recipe found keeps to --vram and --ram; give a shorter --ctx, or a smaller --kv-type")


def keeps_to_machine(solved: Solved) -> bool:
    """Whether a solved recipe lacks nothing on the machine that was asked for, if any was."""
    return solved.request.use is None or not any(_lacking(solved))


def _lacking(solved: Solved) -> tuple[int, int]:
    """Bytes that the GPUs and the memory lack, in the engine that needs most."""
    runs = runs_of(solved.plan)
    return max(r.lacking_vram for r in runs), max(r.lacking_ram for r in runs)


def _cuts(request: Request) -> list[_Cut]:
    """All ways to cut the model in two, with the least room that an engine of the target leaves."""
    assert request.use is not None
    by_engine = [_cuts_of(request, request.use._replace(engine=engine)) for engine in request.base.engines]
    found: dict[frozenset[str], _Cut] = {}
    for cut in (cut for cuts in by_engine for cut in cuts):
        same = found.get(cut.names, cut)
        ram = None if cut.ram is None or same.ram is None else min(cut.ram, same.ram)
        found[cut.names] = _Cut(cut.names, min(cut.gpus, same.gpus), ram)
    return [cut for cut in found.values() if cut.gpus >= 0 and (cut.ram is None or cut.ram >= 0)]


def _cuts_of(request: Request, use: Use) -> list[_Cut]:
    names = {t.name: key_of(t.name) for t in request.header.tensors}
    cache, compute = cache_of(request.header, use), compute_estimate(request.header, use)
    order = stages(names.values(), output_first=use.engine == "llama.cpp") if use.vram else ()
    cuts = []
    # Without a word about memory all of it is to be on the GPUs.
    for n in range(len(order) if use.ram is None else 0, len(order) + 1):
        keys = {key for stage in order[:n] for key in stage.keys}
        cached = sum(cache.by_layer.get(layer, 0) for stage in order[:n] for layer in stage.layers)
        logits = compute.logits if any(stage.has_output for stage in order[:n]) else 0
        gpus = sum(use.vram) - cached - len(use.vram) * compute.each - logits
        computes = any(key not in keys and key[1] != "embeddings" for key in names.values())
        rest = cache.nbytes - cached + computes * compute.each + compute.logits - logits
        ram = None if use.ram is None else use.ram - rest
        cuts.append(
            _Cut(frozenset(n for n, key in names.items() if key in keys), max(gpus, 0) if n == 0 else gpus, ram)
        )
    return cuts


def _best(cuts: list[_Cut], request: Request, predictor: Predictor) -> _Cut:
    """The cut whose rough solution loses least: among some, then among those near the best one so far."""
    if not cuts:
        raise PlanError("the cache and the buffers alone are more than --vram and --ram; give a shorter --ctx")
    base_plan = make_plan(request.base, request.header, request.imatrix, request.split)
    choices = choices_of(request, base_plan, lambda t: predictor.losses(t, request.types))
    losses: dict[int, float] = {}

    def tried(numbers: Iterable[int]) -> int:
        for i in numbers:
            if 0 <= i < len(cuts) and i not in losses:
                losses[i] = _rough_loss(choices, cuts[i], request)
        return min(losses, key=lambda i: (losses[i], -i))

    at = tried(range(0, len(cuts), _COARSE))
    if losses[at] == math.inf:
        at = tried(range(len(cuts)))
    step = _COARSE // 2
    while step:
        at = tried((at - step, at + step))
        step //= 2
    if losses[at] == math.inf:
        raise PlanError("not even the smallest types fit into --vram and --ram; give a shorter --ctx, or more memory")
    return cuts[at]


def _rough_loss(choices: Choices, cut: _Cut, request: Request) -> float:
    room = room_of(replace(request, budget=replace(request.budget, shares=cut.shares())), choices, 0)
    rough = solve_within(choices.items, room, ROUGHLY)
    return math.inf if rough is None else rough.loss
