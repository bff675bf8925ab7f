"""The mixes of llama.cpp, and what it has for single architectures, against the library's own dry run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe, shipped_names
from tests.planning.llama_library import library, library_types
from tests.planning.models import header, imatrix, write
from tests.planning.newer import NEWER, newer
from tests.planning.zoo import MODELS, MORE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.planning.models import Model

pytestmark = pytest.mark.skipif(library() is None, reason="llama-cpp-py-sync is not installed")

REFUSED = {"nvfp4"}
"""Mixes that the library knows by their number only when it reads them in a model."""
NO_SUBSTITUTE = {"q1_0"}
"""Mixes of a type that the library stops at where its blocks do not divide the rows."""


def check(model: Model, folder: Path, mixes: list[str], *, with_imatrix: bool) -> int:
    """Every mix decides as the library does; how many were held to it."""
    path = write(model, folder / "model.gguf")
    recipes = {name: load_recipe(f"llama.cpp/{name}") for name in mixes}
    ftypes = {name: r.file_type for name, r in recipes.items() if r.file_type is not None}
    found = library_types(path, list(ftypes.values()), imatrix=with_imatrix)
    held, wrong = 0, []
    for name, ftype in ftypes.items():
        if not found[ftype]:
            assert name in REFUSED or name in NO_SUBSTITUTE, name
            continue
        plan = make_plan(recipes[name], header(model), imatrix(model, every=True) if with_imatrix else None)
        wrong += [
            (name, t.name, t.type, found[ftype].get(t.name)) for t in plan.tensors if t.type != found[ftype][t.name]
        ]
        held += 1
    assert not wrong
    return held


def mixes() -> list[str]:
    return [n.removeprefix("llama.cpp/") for n in shipped_names() if n.startswith("llama.cpp/")]


@pytest.mark.parametrize("arch", NEWER)
def test_architectures_with_rules_of_their_own(arch: str, tmp_path: Path) -> None:
    assert check(newer(arch), tmp_path, ["q4_k_m", "mxfp4_moe", "q8_0", "q6_k", "iq2_xs"], with_imatrix=True) == 5


def test_what_those_rules_are() -> None:
    """So that a library that is not installed does not leave them untested."""
    types = {
        arch: {t.name: t.type for t in make_plan(load_recipe("llama.cpp/q4_0"), header(newer(arch))).tensors}
        for arch in NEWER
    }
    assert types["glm5-next"]["blk.0.attn_q_a.weight"] == "Q8_0"
    assert types["glm5-next"]["blk.1.ssm_f_a.weight"] == "F16"
    assert types["muse-spark"]["blk.0.ffn_latent_up.weight"] == types["muse-spark"]["blk.0.attn_gate.weight"] == "Q8_0"
    assert types["vllm-decision2"]["decision.scorer.weight"] == "F16"
    assert types["vllm-decision2"]["blk.0.decision.x.weight"] == "Q4_0"
    assert types["bailingmoe3"]["decision.scorer.weight"] == "Q4_0"


def test_rotated_weights_keep_their_metadata_and_are_told() -> None:
    model = MODELS["smollm-576"]
    head = header(model)
    key = make_field("prism.hadamard.block_size", 128, ValueType.UINT32)
    rotated = replace(head, metadata=(*head.metadata, key))
    recipe = load_recipe("llama.cpp/q4_0")
    plan = make_plan(recipe, rotated)
    told = [p for p in plan.problems if p.id == "transformed-weights"]
    assert [p.severity for p in told] == ["warning"]
    assert "prism.hadamard.block_size" in told[0].text
    assert key.raw in plan.files[0].header
    assert not [p for p in make_plan(recipe, head).problems if p.id == "transformed-weights"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama1-7b", "mixtral-8x7b", "deepseek-v2-lite-like", "falcon-7b", "gemma2-tied",
                                   "qwen3-next", "llama3-70b", "qwen3-moe", "mamba"])  # fmt: skip
def test_every_mix_decides_as_the_library_does(model: str, tmp_path: Path) -> None:
    known = {**MODELS, **MORE}[model]
    assert check(known, tmp_path, mixes(), with_imatrix=False) >= len(mixes()) - 2
    # Those that ask whether there is one.
    check(known, tmp_path, ["iq3_xxs", "iq4_xs", "iq4_nl", "q4_0", "q5_0", "iq2_xs"], with_imatrix=True)
