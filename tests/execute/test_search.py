"""A search that the recipe asks for is done without an importance, too: what sits on a lattice comes out whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix import load_recipe, make_plan, read_header
from qxmix.execute import apply
from qxmix.execute.reuse import tensor_key
from qxmix.planning.memory import Chunking
from qxmix.quants import QUANT_TYPES
from qxmix.quants.api import dequantize, quantize
from qxmix.report.plan import plan_text
from qxmix.report.plan_json import plan_json
from tests.execute.plans import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qxmix import Plan

NAME = "blk.0.attn_q.weight"
HEAD = "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\n"


def lattice() -> NDArray[np.float32]:
    """(64, 256) weights that are int4 times a scale per 32; halves hold the products."""
    rng = np.random.default_rng(4)
    scales = (rng.integers(5, 16, (64, 8, 1)) / 1024).astype(np.float32)
    values: NDArray[np.float32] = (rng.integers(-8, 8, (64, 8, 32)) * scales).reshape(64, 256).astype(np.float32)
    return values


def plan_of(folder: Path, more: str) -> Plan:
    model, recipe = folder / "model.gguf", folder / "r.yaml"
    write_model(model, {NAME: lattice().astype(np.float16)})
    recipe.write_text(HEAD + more)
    return make_plan(load_recipe(recipe), read_header(model))


def weights_of(path: Path) -> NDArray[np.float32]:
    tensor = read_header(path).tensors[0]
    data = np.frombuffer(path.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes], np.uint8)
    return dequantize(data, "Q4_0", 256)


@pytest.mark.parametrize("asked", ["search: exhaustive", "rules: [{match: attn, type: q4_0, search: exhaustive}]"])
def test_a_lattice_is_found_without_an_importance(tmp_path: Path, asked: str) -> None:
    out = apply(plan_of(tmp_path, asked), tmp_path / "o.gguf").paths[0]
    assert np.abs(weights_of(out) - lattice()).max() < 1e-5
    expected = quantize(lattice(), "Q4_0", np.ones(256, np.float32), search="exhaustive")
    assert read_header(out).tensors[0].nbytes == expected.nbytes
    assert expected.tobytes() in out.read_bytes()


def test_without_a_word_it_is_rounded_as_the_reference_does(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, "")
    out = apply(plain, tmp_path / "o.gguf").paths[0]
    assert quantize(lattice(), "Q4_0").tobytes() in out.read_bytes()
    assert np.abs(weights_of(out) - lattice()).max() > 1e-3
    asked = plan_of(tmp_path, "search: gradient")
    assert tensor_key(plain, plain.tensors[0], "0") != tensor_key(asked, asked.tensors[0], "0")


def test_types_that_do_not_search_stay_as_they_are(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "search: exhaustive\nrules: [{match: attn, type: q4_k}]")
    assert not plan.tensors[0].counts_alike
    assert "exhaustive: changes nothing" in plan_text(plan, Chunking())
    assert "search-unused" in [p.id for p in plan.problems]


@pytest.mark.parametrize("name", ["q4_1", "q5_1", "q8_0"])
def test_types_that_find_lattices_heed_the_exhaustive_search_alone(tmp_path: Path, name: str) -> None:
    rules = f"rules: [{{match: attn, type: {name}}}]"
    keys = {}
    for search, told in (
        ("exhaustive", "blocks on a lattice"),
        ("heuristic", "changes nothing"),
    ):
        plan = plan_of(tmp_path, f"search: {search}\n{rules}")
        assert not plan.tensors[0].counts_alike
        assert f"{search}: {told}" in plan_text(plan, Chunking())
        assert ("search-unused" in [p.id for p in plan.problems]) == (search == "heuristic")
        keys[search] = tensor_key(plan, plan.tensors[0], "0")
    assert keys["exhaustive"] != keys["heuristic"]
    made = apply(plan_of(tmp_path, f"search: exhaustive\n{rules}"), tmp_path / "o.gguf").paths[0]
    tensor = read_header(made).tensors[0]
    data = np.frombuffer(made.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes], np.uint8)
    step = np.abs(lattice()[lattice() != 0]).min() / 8
    assert np.abs(dequantize(data, name, 256) - lattice()).max() < (step if name == "q8_0" else 1e-4)
    assert quantize(lattice(), name, search="exhaustive").tobytes() == data.tobytes()


def test_plan_tells_the_search(tmp_path: Path) -> None:
    asked, plain = plan_of(tmp_path, "search: heuristic"), plan_of(tmp_path, "")
    assert "heuristic, columns alike" in plan_text(asked, Chunking())
    assert "search" not in plan_text(plain, Chunking())
    told = [str(plan_json(p, Chunking())["tensors"]) for p in (asked, plain)]
    assert ["'counts_alike': True" in text for text in told] == [True, False]


@pytest.mark.parametrize("name", [t.name for t in QUANT_TYPES if t.searches and t.row_group == 1])
def test_quantize_counts_columns_alike_where_a_search_is_named(name: str) -> None:
    x = np.random.default_rng(2).standard_t(4, (3, 256)).astype(np.float32)
    ones = np.ones(256, np.float32)
    for search in ("gradient", "heuristic"):
        np.testing.assert_array_equal(quantize(x, name, search=search), quantize(x, name, ones, search=search))
    np.testing.assert_array_equal(quantize(x, name, search=None), quantize(x, name))
    assert (quantize(x, name, search="gradient") != quantize(x, name)).any()
