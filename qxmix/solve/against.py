"""Random choices of the same size: what a solved recipe has to beat to be worth anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qxmix.solve.model import Item, Option, Solution
from qxmix.solve.shares import Room


def random_chooser(seed: int) -> Callable[[Sequence[Item], Room], Solution | None]:
    """A chooser of :func:`qxmix.solve.make.solve_recipe` that follows nothing but its seed.

    Every item starts at any of its options, and then items in random order go one option down while the whole is too
    large, and one up while it still fits.  Options that another one beats in bytes and loss are none.
    """

    def choose(items: Sequence[Item], room: Room) -> Solution | None:
        if room.total is None or sum(item.options[0].nbytes for item in items) > room.total:
            return None
        rng = np.random.default_rng(seed)
        at = [int(rng.integers(len(item.options))) for item in items]
        left = room.total - sum(item.options[k].nbytes for item, k in zip(items, at, strict=True))
        while left < 0:
            left += _moved(items, at, int(rng.integers(len(items))), -1)
        for i in (int(i) for _ in range(max(len(item.options) for item in items)) for i in rng.permutation(len(items))):
            more = _step(items[i], at[i], 1)
            if more <= left:
                left -= more
                at[i] += 1 if more else 0
        chosen = tuple(item.options[k] for item, k in zip(items, at, strict=True))
        loss = sum(option.loss for option in chosen)
        return Solution(chosen, sum(o.nbytes for o in chosen), loss, loss, loss, f"Chosen at random, seed {seed}.")

    return choose


def _moved(items: Sequence[Item], at: list[int], index: int, by: int) -> int:
    """Move an item if it can be; the bytes that it gives back."""
    saved = -_step(items[index], at[index], by)
    at[index] += by if saved else 0
    return saved


def _step(item: Item, at: int, by: int) -> int:
    """Bytes more after a step; 0 where there is none."""
    options: tuple[Option, ...] = item.options
    return options[at + by].nbytes - options[at].nbytes if 0 <= at + by < len(options) else 0
