"""Which tensors are swapped together, in which order, and what fills the gaps."""

from __future__ import annotations

import pytest

from qxmix.measure.groups import fill, groups_of, in_order
from qxmix.measurement.model import Sensitivity

NAMES = [
    "token_embd.weight",
    *(
        f"blk.{layer}.{part}.weight"
        for layer in range(9)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    ),
    "output.weight",
]


def test_each_tensor_alone() -> None:
    assert groups_of(NAMES, tied=False) == tuple((name,) for name in NAMES)


def test_tie_groups() -> None:
    groups = groups_of(NAMES, tied=True)
    assert ("blk.3.attn_q.weight", "blk.3.attn_k.weight", "blk.3.attn_v.weight") in groups
    assert ("blk.3.ffn_gate.weight", "blk.3.ffn_up.weight") in groups
    assert ("blk.3.ffn_down.weight",) in groups
    assert sorted(name for group in groups for name in group) == sorted(NAMES)
    assert len(groups) == 2 + 9 * 4


def test_experts_that_are_tensors_of_their_own_go_together() -> None:
    names = [f"blk.{i}.ffn_{part}.{e}.weight" for i in range(2) for e in range(3) for part in ("up", "gate", "down")]
    assert groups_of(names, tied=False)[0] == tuple(f"blk.0.ffn_up.{e}.weight" for e in range(3))
    assert len(groups_of(names, tied=False)) == 6
    assert len(groups_of(names, tied=True)) == 4


def test_every_kind_comes_first_with_its_ends() -> None:
    order = in_order(groups_of(NAMES, tied=False))
    assert sorted(order) == sorted((name,) for name in NAMES)
    kinds = 9
    assert len({name.split(".")[-2] for (name,) in order[:kinds]}) == kinds
    layers = [name.split(".")[1] for (name,) in order if "ffn_down" in name]
    assert layers == ["0", "8", "4", "2", "6", "1", "3", "5", "7"]


def test_layers_are_in_order_whatever_the_file_has() -> None:
    names = [f"blk.{i}.ffn_up.weight" for i in (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)]
    assert [name.split(".")[1] for (name,) in in_order(groups_of(names, tied=False))][:3] == ["0", "10", "5"]


def known(**values: float) -> dict[str, Sensitivity]:
    return {f"blk.{key[1:]}.ffn_up.weight": Sensitivity(v, 0.1 * v, "measured") for key, v in values.items()}


def test_gaps_are_filled_by_logarithm_and_depth() -> None:
    names = [f"blk.{i}.ffn_up.weight" for i in range(8)]
    measured = known(_1=1.0, _5=16.0)
    filled = fill(names, measured)
    assert list(filled) == names
    assert filled[names[1]] == measured[names[1]]
    values = [filled[name].value for name in names]
    assert values == pytest.approx([1, 1, 2, 4, 8, 16, 16, 16])
    assert {filled[name].origin for i, name in enumerate(names) if i not in {1, 5}} == {"filled"}
    assert filled[names[3]].error == pytest.approx(7.5)


def test_a_kind_without_measurements_takes_the_mean_of_all() -> None:
    filled = fill(["output.weight"], known(_0=1.0, _1=100.0))["output.weight"]
    assert filled.value == pytest.approx(10)
    assert filled.error == pytest.approx(90)
    assert filled.origin == "filled"


def test_zero_is_no_hindrance() -> None:
    filled = fill(["blk.1.ffn_up.weight"], known(_0=0.0, _2=1.0))
    assert 0 < filled["blk.1.ffn_up.weight"].value < 1
