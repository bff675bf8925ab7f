"""A rule per tensor: the plan of thousands of rules, and how often it looks a type up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from qxmix import quants
from qxmix.lint import lint
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import Model, facts, header
from tests.planning.test_published import glm_4_6

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.recipe import Recipe

N_LAYERS = 200
PARTS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down", "ffn_x", "ffn_y", "ffn_z"]
SHAPES = {f"blk.{i}.{part}.weight": (256, 256) for i in range(N_LAYERS) for part in PARTS}
TYPES = ["q4_k", "q5_k", "iq4_ks", "q6_k"]


def per_tensor(tmp_path: Path, form: str, n_rules: int) -> Recipe:
    """Rules as Thireus' recipes have them, one per tensor; those beyond the model's tensors select nothing."""
    names = [*SHAPES, *(f"blk.{i}.{part}.weight" for i in range(N_LAYERS, 2000) for part in PARTS)][:n_rules]
    rules = [f"  - {{match: '{form.format(n.replace('.', chr(92) + '.'))}', type: {TYPES[i % 4]}}}\n"
             for i, n in enumerate(names)]  # fmt: skip
    path = tmp_path / "r.yaml"
    path.write_text("qxmix: 1\ntarget: ik_llama.cpp\ndefault: q8_0\nrules:\n" + "".join(rules))
    return load_recipe(path)


@pytest.mark.parametrize("form", ["^{}$", "{}", "^{}", "({})", "^(?:{})$"])
def test_thousands_of_rules_decide_as_they_say(tmp_path: Path, form: str) -> None:
    plan = make_plan(per_tensor(tmp_path, form, 2000), header(Model("llama", facts(N_LAYERS, 256, 8, 2), SHAPES)))
    assert [t.type.lower() for t in plan.tensors] == [TYPES[i % 4] for i in range(2000)]
    assert [t.rule for t in plan.tensors] == list(range(2000))


@pytest.mark.parametrize(("n_rules", "seconds"), [(2000, 0.5), (5000, 2.0)])
@pytest.mark.parametrize("form", ["^{}$", "{}"])
def test_the_time_of_thousands_of_rules(tmp_path: Path, form: str, n_rules: int, seconds: float) -> None:
    recipe = per_tensor(tmp_path, form, n_rules)
    model = header(Model("llama", facts(N_LAYERS, 256, 8, 2), SHAPES))
    times = []
    for _ in range(3):
        start = time.process_time()
        plan = make_plan(recipe, model)
        times.append(time.process_time() - start)
    assert min(times) <= seconds
    start = time.process_time()
    lint(plan)
    assert time.process_time() - start <= 2 * seconds


class Counting(dict[str, quants.QuantType]):
    """A registry that notes what is looked up in it."""

    def __init__(self, known: dict[str, quants.QuantType]) -> None:
        super().__init__(known)
        self.looked_up: list[str] = []

    def get(self, key: str, default: quants.QuantType | None = None) -> quants.QuantType | None:  # type: ignore[override]
        self.looked_up.append(key)
        return super().get(key, default)


@pytest.mark.parametrize("name", ["ubergarm/glm-4.6-iq3_ks", "ik_llama.cpp/q4_k_m", "llama.cpp/q2_k", "pure/iq4_kt"])
def test_each_type_is_looked_up_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, model = load_recipe(name), header(glm_4_6())
    by_name, by_id = Counting(quants._BY_NAME), Counting(quants._BY_ID)  # type: ignore[arg-type]
    monkeypatch.setattr(quants, "_BY_NAME", by_name)
    monkeypatch.setattr(quants, "_BY_ID", by_id)
    plan = make_plan(recipe, model)
    assert len({t.type for t in plan.tensors}) > 1
    assert len(by_name.looked_up) == len(set(by_name.looked_up)), by_name.looked_up
    assert by_id.looked_up == []
