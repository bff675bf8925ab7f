"""Statistics, comparison and coverage on matrices small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.importance.compare import compare
from qxmix.importance.coverage import Coverage, coverage
from qxmix.importance.stats import stats


def matrix(entries: dict[str, list[float]], counts: dict[str, list[float]] | None = None) -> Imatrix:
    values = {n: np.array(v, np.float32) for n, v in entries.items()}
    counted = {n: np.array((counts or {}).get(n, [64]), np.float32) for n in entries}
    return Imatrix(Path("m.gguf"), "", values, (), 0, counted, "tokens", 64)


def test_figures_of_one_entry() -> None:
    (found,) = stats(matrix({"blk.2.ffn_up.weight": [8, 1, 1, 0, 0, 0, 0, 0, 0, 0]}))
    assert (found.category, found.layer, found.n_values, found.count) == ("ffn_up", 2, 10, 64)
    assert (found.sum, found.min, found.max, found.mean) == (10, 0, 8, 1)
    assert found.carrying_percent == 20  # 8 + 1 of 10
    assert found.entropy == pytest.approx(0.8 * np.log2(1 / 0.8) + 2 * 0.1 * np.log2(10))
    assert found.evenness == pytest.approx(found.entropy / np.log2(10))
    assert found.similarity is None


def test_equal_importances_are_even() -> None:
    (found,) = stats(matrix({"a": [3] * 8}))
    assert (found.entropy, found.evenness) == (3, 1)
    assert found.carrying_percent == 100


def test_likeness_to_the_layer_before() -> None:
    found = stats(
        matrix(
            {
                "blk.0.attn_q.weight": [1, 0],
                "blk.1.attn_q.weight": [3, 4],
                "blk.3.attn_q.weight": [1, 0],
                "blk.1.ffn_up.weight": [1, 0],
                "blk.2.attn_q.weight": [1, 1, 1],
                "output.weight": [1, 1],
            }
        )
    )
    assert {e.entry: e.similarity for e in found if e.similarity is not None} == {
        "blk.1.attn_q.weight": pytest.approx(0.6)
    }


def test_zeros_have_no_spread() -> None:
    (found,) = stats(matrix({"a": [0, 0]}))
    assert (found.sum, found.carrying_percent, found.entropy) == (0, 0, 0)


def test_unseen_experts_do_not_count() -> None:
    (found,) = stats(matrix({"e": [2, 4, 1, 1]}, {"e": [9, 0]}))
    assert (found.n_matrices, found.n_values, found.sum, found.mean, found.count) == (2, 2, 6, 3, 4.5)
    (found,) = stats(matrix({"e": [1, 1, 1, 1]}, {"e": [0, 0]}))
    assert (found.n_values, found.sum, found.min, found.max) == (0, 0, 0, 0)


def test_a_toy_of_three_experts() -> None:
    """Of 3 experts 1 saw nothing; of 4, the last saw less than 5 % of the average of 50."""
    imatrix = matrix({"dense": [1, 1], "e": [1] * 6, "t": [1] * 8}, {"e": [7, 0, 5], "t": [90, 60, 48, 2]})
    assert list(coverage(imatrix)) == [
        Coverage("e", 3, 4.0, (1,), ()),
        Coverage("t", 4, 50.0, (), (3,)),
    ]
    assert [c.complete for c in coverage(imatrix)] == [False, False]
    exactly = replace(imatrix, counts={"t": np.array([97.5, 100, 0, 2.5], np.float32)})
    assert [(c.unseen, c.thin) for c in coverage(exactly)] == [((2,), ())]  # 2.5 is 5 % of 50, not less


def test_what_moved() -> None:
    a = matrix({"blk.0.ffn_up.weight": [1, 1, 2, 0], "blk.1.ffn_up.weight": [1, 3]})
    b = matrix({"blk.0.ffn_up.weight": [0, 2, 4, 2], "blk.1.ffn_up.weight": [2, 6]})
    found = compare(a, b)
    first, second = found.changes
    assert (first.category, first.layer, first.moved_percent, first.scale) == ("ffn_up", 0, 25, 2)
    assert (second.moved_percent, second.scale) == (0, 2)
    assert second.similarity == pytest.approx(1)
    assert not found.same
    assert not second.same
    assert compare(a, a).same


def test_each_expert_is_compared_for_itself() -> None:
    a = matrix({"e": [1, 0, 1, 1, 5, 5]}, {"e": [1, 1, 1]})
    b = matrix({"e": [0, 9, 1, 1, 1, 1]}, {"e": [1, 1, 0]})
    (change,) = compare(a, b).changes
    assert change.moved_percent == 50  # of the two that both saw, one moved whole
    assert (change.n_unseen_a, change.n_unseen_b) == (0, 1)


def test_what_only_one_has() -> None:
    found = compare(matrix({"a": [1], "b": [1, 2]}), matrix({"b": [1], "c": [1]}))
    assert (found.only_a, found.only_b, found.resized, found.changes) == (("a",), ("c",), ("b",), ())
    assert not found.same
