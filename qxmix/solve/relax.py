"""The linear relaxation: parts of tensors may be of different types, and the best choice is found by sorting.

Dyer 1984, Zemel 1984: on the lower convex hull of (bytes, loss) of each item every step to the next option has a gain
in loss per byte, and gains fall from step to step.  Steps of all items in order of their gain, taken while they fit,
are the optimum; the first that does not fit is taken in part.  One sort answers for every budget.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from qxmix.solve.model import Item, Option


class Step(NamedTuple):
    """From one option on an item's hull to the next."""

    gain: float
    """Loss saved per byte."""
    item: int
    to: int
    """Index of the option it leads to."""
    nbytes: int
    """Bytes more."""
    loss: float
    """Loss saved."""


class Staircase(NamedTuple):
    """All items at their smallest option, and the steps up from there, best first."""

    items: tuple[Item, ...]
    nbytes: int
    """Of the smallest options."""
    loss: float
    steps: tuple[Step, ...]
    ends_nbytes: tuple[int, ...]
    """After each step."""
    ends_loss: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The optimum of the relaxation at one budget."""

    chosen: tuple[int, ...]
    """Options after the last whole step."""
    nbytes: int
    loss: float
    """Of ``chosen``."""
    bound: float
    """Loss with a part of the next step, the least that any choice can have."""
    price: float
    """Loss that one more byte would save; 0 where every step fits."""
    split: int | None
    """The item of the step that is taken in part."""


def staircase(items: Sequence[Item]) -> Staircase:
    """Sort all steps."""
    steps = [step for i, item in enumerate(items) for step in _steps(i, item.options)]
    # Steps of one item have falling gains, and where they are equal the order of its options decides.
    steps.sort(key=lambda s: (-s.gain, s.item, s.to))
    return _climbed(tuple(items), tuple(steps))


def fixed(stairs: Staircase, item: int, option: int) -> Staircase:
    """The same problem with one option left of an item, which thereby becomes its option 0."""
    items = list(stairs.items)
    items[item] = items[item]._replace(options=(items[item].options[option],))
    return _climbed(tuple(items), tuple(s for s in stairs.steps if s.item != item))


def _climbed(items: tuple[Item, ...], steps: tuple[Step, ...]) -> Staircase:
    nbytes = sum(item.options[0].nbytes for item in items)
    loss = sum(item.options[0].loss for item in items)
    return Staircase(
        items,
        nbytes,
        loss,
        steps,
        tuple(accumulate((s.nbytes for s in steps), initial=nbytes))[1:],
        tuple(accumulate((-s.loss for s in steps), initial=loss))[1:],
    )


def relax(stairs: Staircase, budget: int) -> Relaxed | None:
    """The optimum at ``budget`` bytes, or None where not even the smallest options fit."""
    if stairs.nbytes > budget:
        return None
    n = bisect_right(stairs.ends_nbytes, budget)
    chosen = [0] * len(stairs.items)
    for step in stairs.steps[:n]:
        chosen[step.item] = step.to
    nbytes = stairs.ends_nbytes[n - 1] if n else stairs.nbytes
    loss = stairs.ends_loss[n - 1] if n else stairs.loss
    if n == len(stairs.steps):
        return Relaxed(tuple(chosen), nbytes, loss, loss, 0.0, None)
    following = stairs.steps[n]
    bound = loss - following.gain * (budget - nbytes)
    return Relaxed(tuple(chosen), nbytes, loss, bound, following.gain, following.item)


def hull(options: Sequence[Option]) -> list[int]:
    """Indices of the options on the lower convex hull, by rising bytes.

    Args:
        options: By rising bytes and falling loss.

    """
    kept: list[int] = []
    for i, option in enumerate(options):
        while len(kept) > 1 and not _below(options[kept[-2]], options[kept[-1]], option):
            kept.pop()
        kept.append(i)
    return kept


def _below(a: Option, b: Option, c: Option) -> bool:
    """Whether ``b`` lies below the line from ``a`` to ``c``."""
    return (a.loss - b.loss) * (c.nbytes - a.nbytes) > (a.loss - c.loss) * (b.nbytes - a.nbytes)


def _steps(index: int, options: Sequence[Option]) -> list[Step]:
    kept = hull(options)
    steps = []
    for at, to in pairwise(kept):
        nbytes, loss = options[to].nbytes - options[at].nbytes, options[at].loss - options[to].loss
        steps.append(Step(loss / nbytes, index, to, nbytes, loss))
    return steps
