"""Swaps at constant size, tried on the model itself.

A lower sum of losses can still be a worse model (EvoPress, Sieberling et al., arXiv 2410.14649): the sum knows nothing
of how errors of several tensors go together.  So pairs of items, one a type up and one a type down, that the sum is
least sure about are tried in the resident engine, and those stay whose loss is lower on the same tokens beyond chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import erf, exp, fsum, pi, sqrt
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qxmix.solve.model import Item, Option

SURE = 2.33
"""Standard errors by which the mean must fall: one chance in a hundred that a swap without effect stays."""
_UNSURE = 0.3
"""Standard deviation of an item's loss as a share of it, when swaps are ranked."""
_MOST_STEPS = 200
"""Steps up and down that are paired."""


class Stage(Protocol):
    """A model in memory in some types."""

    def losses(self, types: Mapping[str, str]) -> NDArray[np.float64]:
        """Loss at each position with these tensors in other types than they have now."""

    def settle(self, types: Mapping[str, str]) -> None:
        """Let them have these types from now on."""


class Swap(NamedTuple):
    """Other options for a few items."""

    changes: tuple[tuple[int, Option], ...]
    """Index of an item, and the option that it is to have."""
    nbytes: int
    """Bytes more."""
    promise: float
    """Loss that it is expected to save where it saves any, by the sum and its uncertainty."""


class Refined(NamedTuple):
    """What came of it."""

    chosen: tuple[Option, ...]
    before: float
    """Mean loss on the text at the start."""
    after: float
    n_tried: int
    n_kept: int


def refine(
    items: Sequence[Item],
    chosen: tuple[Option, ...],
    stage: Stage,
    *,
    n_tries: int,
    fits: Callable[[tuple[Option, ...]], bool],
    unseen: Callable[[str, str], float] = lambda _name, _type: 0.0,
    on_try: Callable[[], None] = lambda: None,
) -> Refined:
    """Try the most promising swaps and keep those that a paired test accepts.

    Args:
        items: What can be chosen.
        chosen: Where to start; the stage is in these types.
        stage: Where swaps are tried.
        n_tries: How many.
        fits: Whether a choice is within the budget.
        unseen: What a tensor loses in a type that the stage does not show.
        on_try: Called after each.

    """
    now = stage.losses({})
    before, n_kept = float(now.mean()), 0
    tried: set[tuple[tuple[int, Option], ...]] = set()
    while len(tried) < n_tries:
        swap = next((s for s in swaps(items, chosen) if s.changes not in tried and fits(_with(chosen, s))), None)
        if swap is None:
            break
        tried.add(swap.changes)
        types = {name: option.type for i, option in swap.changes for name in items[i].names}
        then = stage.losses(types)
        hidden = fsum(
            unseen(name, option.type) - unseen(name, chosen[i].type)
            for i, option in swap.changes for name in items[i].names
        )  # fmt: skip
        if is_better(then - now + hidden):
            stage.settle(types)
            chosen, now, n_kept = _with(chosen, swap), then, n_kept + 1
        on_try()
    return Refined(chosen, before, float(now.mean()), len(tried), n_kept)


def is_better(differences: NDArray[np.float64]) -> bool:
    """Whether differences (n,) of losses at the same positions are below zero beyond chance."""
    if differences.size < 2:  # noqa: PLR2004 - one position has no spread
        return False
    error = float(differences.std(ddof=1)) / sqrt(differences.size)
    return float(differences.mean()) < -SURE * error


def swaps(items: Sequence[Item], chosen: tuple[Option, ...]) -> list[Swap]:
    """Pairs of one item up and one down that do not grow the whole, the most promising first."""
    ups = [s for i, item in enumerate(items) for s in _steps(i, item, chosen[i], up=True)]
    downs = [s for i, item in enumerate(items) for s in _steps(i, item, chosen[i], up=False)]
    # Loss saved or lost per byte; steps far from the price of the others have no match worth trying.
    ups = sorted(ups, key=lambda s: -s[3] / s[2])[:_MOST_STEPS]
    downs = sorted(downs, key=lambda s: s[3] / -s[2])[:_MOST_STEPS]
    found = [
        Swap(((i, a), (j, b)), more + less, _promise(saved - lost, _UNSURE * sqrt(saved**2 + lost**2)))
        for i, a, more, saved in ups
        for j, b, less, lost in downs
        if i != j and -more <= less + more <= 0
    ]
    return sorted(found, key=lambda s: (-s.promise, s.nbytes, [(i, o.type) for i, o in s.changes]))


def _steps(index: int, item: Item, now: Option, *, up: bool) -> Iterator[tuple[int, Option, int, float]]:
    """The next option above or below: bytes more, and loss saved (up) or lost (down)."""
    if up:
        larger = [o for o in item.options if o.nbytes > now.nbytes]
        if larger:
            yield index, larger[0], larger[0].nbytes - now.nbytes, now.loss - larger[0].loss
    else:
        smaller = [o for o in item.options if o.nbytes < now.nbytes]
        if smaller:
            yield index, smaller[-1], smaller[-1].nbytes - now.nbytes, smaller[-1].loss - now.loss


def _promise(gain: float, spread: float) -> float:
    """Mean of what a normal variable is above zero (expected improvement)."""
    if spread <= 0:
        return max(0.0, gain)
    z = gain / spread
    return gain * 0.5 * (1 + erf(z / sqrt(2))) + spread * exp(-z * z / 2) / sqrt(2 * pi)


def _with(chosen: tuple[Option, ...], swap: Swap) -> tuple[Option, ...]:
    changed = list(chosen)
    for index, option in swap.changes:
        changed[index] = option
    return tuple(changed)
