"""The dynamic programme of the search: whole choices near the relaxation's, by bytes and reduced cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qxmix.solve.model import Found, Item

if TYPE_CHECKING:
    from qxmix.solve.relax import Relaxed

_MOST_STATES = 2048


class _Core(NamedTuple):
    """What an item may deviate to."""

    item: int
    options: NDArray[np.int32]
    """(n,) indices of the options, the cheapest first."""
    nbytes: NDArray[np.int64]
    """(n,) bytes more than with the cheapest one."""
    cost: NDArray[np.float64]
    """(n,) reduced cost; 0 for the cheapest one."""


@dataclass(frozen=True, slots=True)
class _States:
    """Choices for the items looked at so far; all others are at their cheapest option."""

    nbytes: NDArray[np.int64]
    """(n,) bytes more than with all items at their cheapest option."""
    cost: NDArray[np.float64]
    """(n,) sum of reduced costs."""
    parent: NDArray[np.intp]
    """(n,) the state before the last item was looked at."""
    option: NDArray[np.int32]
    """(n,) the option of the last item."""


def search_core(items: Sequence[Item], relaxed: Relaxed, best: Found, budget: int, tolerance: float) -> Found:
    """Look for a choice that loses less than ``best``.

    Args:
        items: The problem.
        relaxed: Its relaxation, one step of which is taken in part.
        best: A choice that is known; the least loss to beat.
        budget: Bytes.
        tolerance: Share of the loss below which gains are not looked for.

    Returns:
        The better of ``best`` and what was found; in ``proven`` what no choice of this problem stays below.

    """
    price = relaxed.price
    cores = [_core(i, item, price) for i, item in enumerate(items)]
    cheapest = [int(core.options[0]) for core in cores]
    left = budget - sum(item.options[k].nbytes for item, k in zip(items, cheapest, strict=True))
    cores = sorted((c for c in cores if len(c.options) > 1), key=lambda c: float(c.cost[1]))
    stages = [_States(np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.intp), np.zeros(1, np.int32))]
    loss, end, dropped = best.loss, None, math.inf
    for n, core in enumerate(cores):
        room = loss * (1 - tolerance) - relaxed.bound
        if core.cost[1] >= room:
            # All that follow deviate at a higher cost than is left to gain.
            break
        states, lost = _extended(stages[-1], core, room, price)
        dropped = min(dropped, lost)
        if not len(states.cost):
            break
        stages.append(states)
        ends = np.where(states.nbytes <= left, states.cost + price * (left - states.nbytes), math.inf)
        at = int(ends.argmin())
        if relaxed.bound + ends[at] < loss:
            loss, end = float(relaxed.bound + ends[at]), (n + 1, at)
    proven = max(relaxed.bound, min(relaxed.bound + dropped, loss * (1 - tolerance)))
    if end is None:
        return Found(best.chosen, best.loss, proven)
    return Found(_chosen(cheapest, cores, stages, *end), loss, proven)


def _core(index: int, item: Item, price: float) -> _Core:
    nbytes = np.array([o.nbytes for o in item.options], np.int64)
    cost = np.array([o.loss for o in item.options]) + price * nbytes
    order = np.argsort(cost, kind="stable").astype(np.int32)
    return _Core(index, order, nbytes[order] - nbytes[order[0]], cost[order] - cost[order[0]])


def _extended(states: _States, core: _Core, room: float, price: float) -> tuple[_States, float]:
    """All states with each option of one more item, without those that cannot win; and the least cost given up."""
    n_options = int(np.searchsorted(core.cost, room))
    cost = (states.cost[:, None] + core.cost[None, :n_options]).ravel()
    nbytes = (states.nbytes[:, None] + core.nbytes[None, :n_options]).ravel()
    index = np.flatnonzero(cost < room)
    index = index[np.lexsort((cost[index], nbytes[index]))]
    # Of two choices the one with more bytes must lose less.
    loss = cost[index] - price * nbytes[index]
    before = np.minimum.accumulate(np.concatenate(([math.inf], loss[:-1])))
    index = index[loss < before]
    index, dropped = _thinned(index, nbytes, cost)
    parent, option = np.divmod(index, n_options)
    return _States(nbytes[index], cost[index], parent, core.options[option]), dropped


def _thinned(
    index: NDArray[np.intp], nbytes: NDArray[np.int64], cost: NDArray[np.float64]
) -> tuple[NDArray[np.intp], float]:
    """At most so many states, spread over the bytes: of neighbours the cheapest; and the least cost given up."""
    if len(index) <= _MOST_STATES:
        return index, math.inf
    first, last = nbytes[index[0]], nbytes[index[-1]]
    bucket = (nbytes[index] - first) * (_MOST_STATES // 2) // (last - first + 1)
    order = np.lexsort((cost[index], bucket))
    is_first = np.concatenate(([True], np.diff(bucket[order]) > 0))
    kept = np.sort(order[is_first])
    return index[kept], float(cost[index[order[~is_first]]].min())


def _chosen(
    cheapest: list[int], cores: Sequence[_Core], stages: Sequence[_States], stage: int, at: int
) -> tuple[int, ...]:
    """Follow the states back to the first."""
    chosen = list(cheapest)
    for n in range(stage, 0, -1):
        chosen[cores[n - 1].item] = int(stages[n].option[at])
        at = int(stages[n].parent[at])
    return tuple(chosen)
