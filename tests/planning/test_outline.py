"""Outlines: the size and the refusals of a plan, without the plan."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from qxmix.lint import lint, suspicions
from qxmix.plan import make_plan
from qxmix.planning import bits
from qxmix.planning.outline import nbytes_of, outline
from qxmix.planning.view import ModelView
from qxmix.recipe import load_recipe, shipped_names
from tests.planning.models import header
from tests.planning.test_published import glm_4_6
from tests.planning.zoo import MODELS, MORE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qxmix.recipe import Recipe

SOME = {**MODELS, **MORE}
SHIPPED = shipped_names()


def check(recipe: Recipe, view: ModelView) -> None:
    found, plan = outline(recipe, view), make_plan(recipe, view.header)
    errors = dict.fromkeys(p.id for p in plan.problems if p.severity == "error" and p.id != "imatrix-missing")
    assert (found.nbytes, found.bpw, found.refused) == (plan.file_nbytes, plan.bpw, tuple(errors))
    assert found.warned or all(p.severity != "warning" or p.id == "imatrix-missing" for p in plan.problems)
    if not found.refused:
        assert nbytes_of(found, view.header) == {t.name: t.nbytes for t in plan.tensors}
    assert suspicions(recipe, view, found.alike) == lint(plan)


@pytest.mark.parametrize("model", list(SOME))
def test_an_outline_is_that_of_the_plan(model: str) -> None:
    view = ModelView(header(SOME[model]))
    for name in SHIPPED[sorted(SOME).index(model) % 9 :: 9]:
        check(load_recipe(name), view)


RECIPES = {
    "limits": "default: q4_k\nlimits: {max_bpw: 2.0, max_size: 1KiB}\n",
    "expect": "default: q4_k\nrules: [{match: nothing, type: q8_0, expect: {min: 2}}]\n",
    "fallback": "default: q4_k\nfallback: error\n",
    "chains": "default: iq4_xs\nfallback: {q4_k: [q5_0, q8_0]}\nrules: [{category: ffn_down, type: q4_k_r4}]\n",
    "keep": "default: q8_0\nkeep: ['attn_v', 'ffn']\n",
    "all kept": "default: keep\n",
    "force": "default: q8_0\nrules: [{match: _norm, type: f16, force: true}]\n",
    "file type": "default: q8_0\nfile_type: 7\n",
    "metadata": "default: q8_0\nmetadata: {remove: [general.name], set: {x.y: 5}}\n",
    "metadata of no model": "default: q8_0\nmetadata: {rename: {llama.block_count: x.y}}\n",
    "ties": "default: q8_0\nrules: [{category: [ffn_up, ffn_gate], tie: true, type: q4_k,\n"
    "  adjust: [{layers: first(2), type: q6_k}]}]\n",
    "adjust": "default: q4_k\nrules: [{category: attn_v, type: default, adjust: [{when: {type: q4_k, n_rows: '<512'},\n"
    "  type: q6_k}, {layers: {pick: more_bits, by: ordinal}, type: q5_k}]}]\n",
}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_of_what_recipes_can_say(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\ntarget: ik_llama.cpp\n{text}")
    recipe = load_recipe(path)
    for model in [*SOME.values()][::3]:
        check(recipe, ModelView(header(model)))


def test_recipes_share_a_view_without_telling_on_each_other() -> None:
    view = ModelView(header(glm_4_6()))
    for name in [*SHIPPED[::40], *SHIPPED[::40][::-1]]:
        recipe = load_recipe(name)
        assert make_plan(recipe, view.header, view=view) == make_plan(recipe, view.header)


def test_the_time_of_a_list() -> None:
    """190 in 3 s of processor time, loading included, of which an outline may take a hundredth."""
    recipes, view = [load_recipe(name) for name in SHIPPED[::4]], ModelView(header(glm_4_6()))
    outline(recipes[0], view)
    times = []
    for _ in range(3):
        start = time.process_time()
        for recipe in recipes:
            outline(recipe, view)
        times.append((time.process_time() - start) / len(recipes))
    assert min(times) <= 0.008


@pytest.mark.parametrize("flags", [[], [0], [1], [0, 1, 1, 0, 1], [1] * 300, [i % 7 == 0 for i in range(1000)]])
def test_sets_of_tensors(flags: Sequence[int]) -> None:
    members = [i for i, flag in enumerate(flags) if flag]
    tensors = bits.from_flags(flags)
    assert tensors == bits.from_indices(members) == sum(1 << i for i in members)
    assert bits.indices(tensors) == members
    assert not members or bits.first(tensors) == members[0]
    assert bits.union(1 << i for i in members) == tensors
    assert bits.by_value([flag or None for flag in flags]) == ({1: tensors} if members else {})
