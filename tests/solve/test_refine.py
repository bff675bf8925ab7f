"""Swaps at constant size: what is proposed, and what a paired test keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.solve.model import Item, Option, undominated
from qxmix.solve.refine import is_better, refine, swaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def items(n: int = 6) -> list[Item]:
    """Of equal predicted loss, three options each."""
    options = undominated([Option(t, size, loss) for t, size, loss in (("A", 10, 4.0), ("B", 20, 1.0), ("C", 30, 0.2))])
    return [Item((f"t{i}",), options) for i in range(n)]


class Truth:
    """A model whose tensors lose otherwise than predicted: weights of their own, and noise at each position."""

    def __init__(self, of: list[Item], weights: list[float], n: int = 400) -> None:
        rng = np.random.default_rng(4)
        self.of = {name: item for item in of for name in item.names}
        self.types = dict.fromkeys(self.of, "B")
        self.weights = dict(zip(self.of, weights, strict=True))
        self.noise = {name: rng.normal(1, 0.3, n) for name in self.of}
        self.n_calls = 0

    def losses(self, types: Mapping[str, str]) -> NDArray[np.float64]:
        self.n_calls += 1
        now = self.types | dict(types)
        loss = {name: next(o.loss for o in item.options if o.type == now[name]) for name, item in self.of.items()}
        return sum((self.weights[n] * loss[n] * self.noise[n] for n in self.of), np.zeros(400))

    def settle(self, types: Mapping[str, str]) -> None:
        self.types |= types


def test_swaps_keep_the_size_and_are_ranked() -> None:
    of = items()
    found = swaps(of, tuple(i.options[1] for i in of))
    assert found
    assert all(s.nbytes <= 0 for s in found)
    assert [s.promise for s in found] == sorted((s.promise for s in found), reverse=True)


def test_a_tensor_that_matters_more_than_predicted_gets_more() -> None:
    of = items()
    truth = Truth(of, [100, 1, 1, 1, 1, 0.01])
    start = tuple(i.options[1] for i in of)
    found = refine(of, start, truth, n_tries=40, fits=lambda chosen: sum(o.nbytes for o in chosen) <= 120)
    assert found.n_kept >= 1
    assert found.after < found.before
    assert found.chosen[0].type == "C"
    assert sum(o.nbytes for o in found.chosen) <= 120
    # What it says is in the model is what it returns.
    assert [truth.types[f"t{i}"] for i in range(6)] == [o.type for o in found.chosen]
    assert float(truth.losses({}).mean()) == found.after


def test_where_the_prediction_is_right_nothing_is_kept() -> None:
    of = items()
    truth = Truth(of, [1.0] * 6)
    start = tuple(i.options[1] for i in of)
    found = refine(of, start, truth, n_tries=10, fits=lambda _: True)
    assert found.n_kept == 0
    assert found.chosen == start
    assert found.after == found.before
    assert found.n_tried == 10 == truth.n_calls - 1


def test_nothing_that_does_not_fit_is_tried() -> None:
    of = items()
    truth = Truth(of, [1.0] * 6)
    found = refine(of, tuple(i.options[1] for i in of), truth, n_tries=10, fits=lambda _: False)
    assert found.n_tried == 0


def test_chance_alone_is_no_improvement() -> None:
    rng = np.random.default_rng(0)
    kept = sum(is_better(rng.normal(0, 1, 500)) for _ in range(1000))
    assert kept < 25
    assert is_better(rng.normal(-0.3, 1, 500))
    assert not is_better(np.array([-1.0]))
