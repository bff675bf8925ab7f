"""The search against an integer programme, against trying everything, and its bounds against both."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from qxmix.quants import get
from qxmix.solve.few import solve_few
from qxmix.solve.model import Item, Option, Solution, undominated
from qxmix.solve.prior import load_prior
from qxmix.solve.search import solve
from qxmix.solve.shares import Room, solve_within

LLAMA_CPP = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_0", "IQ4_NL", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0")
IK_LLAMA_CPP = (*LLAMA_CPP, "Q6_0", "IQ2_K", "IQ3_K", "IQ4_K", "IQ5_K", "IQ6_K", "IQ4_KS", "IQ5_KS")
BUDGETS = (0.05, 0.12, 0.2, 0.3, 0.42, 0.55, 0.7, 0.85)
"""Shares of the way from the smallest to the largest choice."""


def small_model(types: tuple[str, ...], seed: int, n_layer: int = 30) -> list[Item]:
    """SmolLM2's shapes: rows of 576, which hold no blocks of 256, and a tied embedding with a fifth of all weights."""
    rng = np.random.default_rng(seed)
    shapes = {"attn_q": (576, 576), "attn_k": (576, 192), "attn_v": (576, 192), "attn_output": (576, 576)}
    shapes |= {"ffn_gate": (576, 1536), "ffn_up": (576, 1536), "ffn_down": (1536, 576)}
    tensors = [("token_embd", (576, 49152), 6.3)]
    tensors += [
        (f"{i}.{p}", s, 10 ** float(rng.uniform(-2.4, -0.4))) for i in range(n_layer) for p, s in shapes.items()
    ]
    return [item(name, shape, types, sensitivity, rng) for name, shape, sensitivity in tensors]


def item(
    name: str, shape: tuple[int, int], types: tuple[str, ...], sensitivity: float, rng: np.random.Generator
) -> Item:
    prior = load_prior()
    options = [
        Option(t, get(t).nbytes(shape), sensitivity * (prior.error(t) or 0.0) * float(rng.uniform(0.8, 1.25)))
        for t in types
        if get(t).fits(shape[0])
    ]
    return Item((name,), undominated(options))


def at(items: list[Item], share: float) -> int:
    least = sum(i.options[0].nbytes for i in items)
    most = sum(i.options[-1].nbytes for i in items)
    return int(least + share * (most - least))


def least_loss(items: list[Item], budget: int) -> float:
    """The optimum by SciPy's integer programming, at most 0.02 % above."""
    losses = np.array([o.loss for i in items for o in i.options])
    scale = 1e4 / losses.sum()
    rows = lil_matrix((len(items) + 1, len(losses)))
    column = 0
    for row, one in enumerate(items):
        for option in one.options:
            rows[row, column], rows[len(items), column] = 1, option.nbytes / 1e6
            column += 1
    ones = [1.0] * len(items)
    constraint = LinearConstraint(rows.tocsr(), [*ones, 0], [*ones, budget / 1e6])
    found = milp(
        losses * scale, integrality=np.ones(len(losses)), bounds=Bounds(0, 1), constraints=constraint,
        options={"mip_rel_gap": 2e-4, "time_limit": 60},
    )  # fmt: skip
    assert found.success
    return float(found.fun / scale)


def check(items: list[Item], budget: int, found: Solution | None) -> Solution:
    """What holds of any solution."""
    assert found is not None
    assert all(option in one.options for option, one in zip(found.chosen, items, strict=True))
    assert found.nbytes == sum(o.nbytes for o in found.chosen) <= budget
    assert found.loss == pytest.approx(sum(o.loss for o in found.chosen))
    assert found.bound <= found.proven * (1 + 1e-9)
    assert found.proven <= found.loss * (1 + 1e-9)
    return found


@pytest.mark.parametrize("types", [LLAMA_CPP, IK_LLAMA_CPP], ids=["llama.cpp", "ik_llama.cpp"])
@pytest.mark.parametrize("share", BUDGETS)
def test_within_a_thousandth_of_the_integer_optimum(types: tuple[str, ...], share: float) -> None:
    items = small_model(types, seed=7, n_layer=12)
    budget = at(items, share)
    found = check(items, budget, solve(items, budget))
    best = least_loss(items, budget)
    assert found.loss <= 1.001 * best
    assert found.proven <= best * (1 + 1e-6)


def test_equals_trying_everything() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        items = [
            Item(
                (str(i),),
                undominated([Option(str(k), int(rng.integers(1, 41)), float(rng.random())) for k in range(4)]),
            )
            for i in range(6)
        ]
        budget = at(items, float(rng.random()))
        choices = itertools.product(*(i.options for i in items))
        best = min(sum(o.loss for o in c) for c in choices if sum(o.nbytes for o in c) <= budget)
        found = check(items, budget, solve(items, budget))
        assert found.loss <= best * 1.0006
        assert found.proven <= best * (1 + 1e-9)


def test_one_large_tensor_does_not_mislead_it() -> None:
    """Its steps are larger than all the others together, so the relaxation takes a part of one."""
    items = small_model(LLAMA_CPP, seed=3, n_layer=4)
    for share in (0.3, 0.5, 0.7, 0.9):
        budget = at(items, share)
        found = check(items, budget, solve(items, budget))
        assert found.loss <= 1.001 * least_loss(items, budget)


def test_nothing_fits_and_everything_fits() -> None:
    items = small_model(LLAMA_CPP, seed=3, n_layer=2)
    assert solve(items, at(items, 0) - 1) is None
    smallest = check(items, at(items, 0), solve(items, at(items, 0)))
    assert [o.nbytes for o in smallest.chosen] == [i.options[0].nbytes for i in items]
    largest = check(items, 10**12, solve(items, 10**12))
    assert largest.loss == pytest.approx(largest.bound)
    assert [o.nbytes for o in largest.chosen] == [i.options[-1].nbytes for i in items]


def test_dominated_options_are_no_options() -> None:
    a, b, c, d = (Option(t, n, loss) for t, n, loss in (("A", 10, 2.0), ("B", 10, 1.0), ("C", 12, 1.0), ("D", 13, 0.5)))
    assert undominated([d, c, b, a]) == (b, d)


def test_a_share_that_would_get_more_is_held_to_its_budget() -> None:
    items = small_model(IK_LLAMA_CPP, seed=5)
    total = at(items, 0.5)
    free = check(items, total, solve(items, total))
    share_of = tuple(0 if "ffn" in i.names[0] else None for i in items)
    used = sum(o.nbytes for o, s in zip(free.chosen, share_of, strict=True) if s == 0)
    held = check(items, total, solve_within(items, Room(total, (int(0.9 * used),), share_of)))
    now = sum(o.nbytes for o, s in zip(held.chosen, share_of, strict=True) if s == 0)
    assert 0.89 * used < now <= 0.9 * used
    assert held.loss > free.loss
    # What the share may not have, the others get.
    assert held.nbytes > 0.999 * total
    assert check(items, total, solve_within(items, Room(total, (used,), share_of))).loss <= free.loss * 1.001


def test_shares_alone_are_each_kept() -> None:
    items = small_model(IK_LLAMA_CPP, seed=5)
    share_of = tuple(0 if "ffn" in i.names[0] else 1 for i in items)
    caps = (40_000_000, 45_000_000)
    found = solve_within(items, Room(None, caps, share_of))
    assert found is not None
    for index, cap in enumerate(caps):
        used = sum(o.nbytes for o, s in zip(found.chosen, share_of, strict=True) if s == index)
        assert 0.995 * cap < used <= cap


@pytest.mark.parametrize("most", [2, 3, 5])
def test_few_types(most: int) -> None:
    items = small_model(IK_LLAMA_CPP, seed=9, n_layer=8)
    budget = at(items, 0.4)
    free = check(items, budget, solve(items, budget))
    few = check(items, budget, solve_few(items, Room(budget), most))
    assert len({o.type for o in few.chosen}) <= most < len({o.type for o in free.chosen})
    assert few.loss >= free.proven


def test_few_types_find_the_best_pair() -> None:
    items = small_model(LLAMA_CPP, seed=9, n_layer=3)
    budget = at(items, 0.4)
    losses = []
    for pair in itertools.combinations(LLAMA_CPP, 2):
        fewer = [Item(i.names, tuple(o for o in i.options if o.type in pair)) for i in items]
        if all(i.options for i in fewer) and (found := solve(fewer, budget)):
            losses.append(found.loss)
    few = check(items, budget, solve_few(items, Room(budget), 2))
    assert few.loss <= 1.02 * min(losses)


def test_a_model_of_a_thousand_tensors_takes_no_second() -> None:
    rng = np.random.default_rng(2)
    shapes = [(7168, 2048 * 256), (2048, 7168 * 256), (7168, 576), (16384, 7168), (1536, 24576), (7168, 2048)]
    items = [
        item(str(i), shapes[i % len(shapes)], IK_LLAMA_CPP, 10 ** float(rng.uniform(-3, 0)), rng) for i in range(1086)
    ]
    start = time.process_time()
    for share in (0.2, 0.5):
        check(items, at(items, share), solve(items, at(items, share)))
    assert time.process_time() - start < 2
