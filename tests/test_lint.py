"""Suspicions about recipes: each id is raised by what it is for, and not by its harmless neighbour."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import qxmix
from qxmix.errors import RecipeError
from qxmix.lint import lint
from qxmix.plan import Plan, make_plan
from qxmix.recipe import load_recipe
from qxmix.recipe.problem_ids import IDS
from tests.planning.models import Model, header

if TYPE_CHECKING:
    from qxmix.errors import Problem

N_LAYERS = 10
SHAPES = {
    "token_embd.weight": (256, 512),
    "output.weight": (256, 512),
    "output_norm.weight": (256,),
    **{
        f"blk.{i}.{part}.weight": shape
        for i in range(N_LAYERS)
        for part, shape in {
            "attn_norm": (256,),
            "attn_q": (256, 256),
            "attn_k": (256, 64),
            "attn_output": (256, 256),
            "ffn_gate": (256, 512),
            "ffn_up": (256, 512),
            "ffn_down": (512, 256),
            "ssm_alpha": (256, 32),
        }.items()
    },
}
FACTS = {"block_count": N_LAYERS, "attention.head_count": 8, "attention.head_count_kv": 2, "embedding_length": 256}
MODEL = Model("llama", FACTS, SHAPES)


def plan(tmp_path: Path, body: str, model: Model = MODEL) -> Plan:
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\nname: r\ntarget: ik_llama.cpp\n{body}")
    return make_plan(load_recipe(path), header(model))


def found(tmp_path: Path, body: str, model: Model = MODEL) -> dict[str, Problem]:
    made = plan(tmp_path, body, model)
    return {p.id: p for p in (*made.problems, *lint(made))}


def test_a_special_case_before_a_general_one_is_a_note(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: 'blk\\.[01]\\.attn_q', type: q8_0}\n  - {match: attn_q, type: q6_k}\n"
    problem = found(tmp_path, body)["rule-partly-shadowed"]
    assert problem.severity == "note"
    assert str(problem.where).endswith("r.yaml:7: rules[1]")
    assert problem.text == "decides 8 of the 10 tensors it selects: rules[0] takes 2 (blk.0.attn_q.weight, ...)"


def test_a_rule_that_comes_too_late_decides_nothing(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: attn_, type: q8_0}\n  - {match: attn_q, type: q6_k}\n"
    problems = found(tmp_path, body)
    assert "takes" not in problems["rule-shadowed"].text
    assert "rules[0] before it take all 10 tensors" in problems["rule-shadowed"].text
    assert "rule-partly-shadowed" not in problems


def test_what_the_last_match_would_change(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: attn_, type: q8_0}\n  - {match: 'output\\.weight', type: q6_k}\n"
    text = found(tmp_path, body)["match-order"].text
    assert "10 tensors would get another type, like blk.0.attn_output.weight Q6_K instead of Q8_0 (rules[1])" in text
    same = "default: q4_k\nrules:\n  - {match: attn_, type: q8_0}\n  - {match: 'output\\.weight', type: q8_0}\n"
    assert "match-order" not in found(tmp_path, same)


@pytest.mark.parametrize(
    ("rules", "severity"),
    [
        (["{match: 'output\\.weight', type: q6_k}"], "warning"),
        (["{match: attn_, type: q5_k}", "{match: 'output\\.weight', type: q6_k}"], "note"),
        (["{match: '^output\\.weight$', type: q6_k}"], None),
        (["{match: 'output|ffn_up', type: q6_k}"], None),
    ],
)
def test_output_without_an_anchor(tmp_path: Path, rules: list[str], severity: str | None) -> None:
    problem = found(tmp_path, "default: q4_k\nrules:\n" + "".join(f"  - {r}\n" for r in rules)).get("output-unanchored")
    assert (problem.severity if problem else None) == severity
    if problem:
        assert "10 tensors like blk.0.attn_output.weight" in problem.text
        assert r"anchor it: '^output\.weight$'" in problem.text


def test_output_without_an_anchor_in_a_tied_model(tmp_path: Path) -> None:
    tied = Model("llama", FACTS, {name: shape for name, shape in SHAPES.items() if name != "output.weight"})
    problems = found(tmp_path, "default: q4_k\nrules:\n  - {match: 'output\\.weight', type: q6_k}\n", tied)
    assert "decides 10 of them" in problems["output-unanchored"].text


def test_a_layer_left_out(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: 'blk\\.[0-8]\\.ffn_down', type: q6_k}\n"
    problem = found(tmp_path, body)["layer-gap"]
    assert problem.severity == "warning"
    assert "rules name 9 of the 10 layers of ffn_down; layer 9 gets the default Q4_K" in problem.text
    half = "default: q4_k\nrules:\n  - {match: 'blk\\.[0-4]\\.ffn_down', type: q6_k}\n"
    assert "layer-gap" not in found(tmp_path, half)


def test_kinds_that_nobody_named(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: 'token_embd|output|attn|ffn', type: q6_k}\n"
    problem = found(tmp_path, body)["default-leftover"]
    assert problem.severity == "warning"
    assert problem.text == "10 tensors that no rule names get the default Q4_K: 10 ssm_alpha; is that meant?"
    few = found(tmp_path, "default: q4_k\nrules:\n  - {match: attn_q, type: q6_k}\n")
    assert few["default-used"].severity == "note"
    assert "default-leftover" not in few


def test_gate_and_up_of_different_types(tmp_path: Path) -> None:
    body = "default: q4_k\nrules:\n  - {match: 'blk\\.[0-3]\\.ffn_gate', type: q6_k}\n"
    problem = found(tmp_path, body)["gate-up-differ"]
    assert "4 layers" in problem.text
    assert "blk.0.ffn_gate.weight Q6_K and blk.0.ffn_up.weight Q4_K" in problem.text
    assert "gate-up-differ" not in found(tmp_path, "default: q4_k\nrules:\n  - {match: 'ffn_(gate|up)', type: q6_k}\n")


def test_requested_and_effective_bits(tmp_path: Path) -> None:
    narrow = {n: (288, s[1]) if n.endswith("attn_q.weight") else s for n, s in SHAPES.items()}
    problems = found(tmp_path, "default: q4_k\n", Model("llama", FACTS, narrow))
    assert re.search(r"asked for have 4\.500 bits .* those that fit have 4\.\d+", problems["bits-above-requested"].text)
    assert "bits-above-requested" not in found(tmp_path, "default: q4_k\n")


def test_interleaved_types_where_they_cannot_stand(tmp_path: Path) -> None:
    odd = {n: (256, 30) if n.endswith("attn_k.weight") else s for n, s in SHAPES.items()}
    texts = [p.text for p in plan(tmp_path, "default: q4_k_r4\n", Model("llama", FACTS, odd)).problems]
    assert any("Q4_K_R4 -> Q4_K for token_embd.weight" in t and "cannot be interleaved" in t for t in texts)
    assert any("Q4_K_R4 -> Q4_K for 10 tensors (blk.0.attn_k.weight" in t for t in texts)


@pytest.mark.parametrize("place", ["recipe", "rule"])
def test_silence(tmp_path: Path, place: str) -> None:
    silence = "silence: {output-unanchored: both are meant}"
    rule = "{match: 'output\\.weight', type: q6_k" + (f", {silence}" if place == "rule" else "") + "}"
    body = f"default: q4_k\nrules:\n  - {rule}\n" + (silence + "\n" if place == "recipe" else "")
    assert "output-unanchored" not in found(tmp_path, body)


def test_an_unknown_id_is_an_error(tmp_path: Path) -> None:
    rule = "{match: attn_q, type: q6_k, silence: {nothing-like-it: meant}}"
    body = f"default: q4_k\nsilence: {{rule-unmached: meant, layer-gap: meant}}\nrules:\n  - {rule}\n"
    with pytest.raises(RecipeError) as caught:
        plan(tmp_path, body)
    assert [str(p).partition("r.yaml:")[2] for p in caught.value.problems] == [
        "5: silence: 'rule-unmached' is no id of a problem; did you mean 'rule-unmatched'?",
        "7: rules[0].silence: 'nothing-like-it' is no id of a problem; 'qxmix lint --ids' lists them",
    ]


def test_rules_of_extended_recipes_are_not_judged(tmp_path: Path) -> None:
    problems = found(tmp_path, "extends: [ik_llama.cpp/q4_k_m]\n")
    assert not {"rule-partly-shadowed", "output-unanchored", "rule-unmatched"} & set(problems)


@pytest.mark.parametrize(
    "name", ["pure/q4_0", "pure/q8_0", "ik_llama.cpp/q4_k_m", "llama.cpp/q4_k_m", "ik_llama.cpp/iq4_k"]
)
def test_shipped_recipes_raise_no_suspicion(name: str) -> None:
    suspicions = lint(make_plan(load_recipe(name), header(MODEL)))
    assert [p.id for p in suspicions if p.severity == "warning" and p.id != "gate-up-differ"] == []


def test_every_id_that_is_reported_is_listed() -> None:
    here = Path(qxmix.__file__).parent
    files = [
        *here.glob("planning/*.py"),
        here / "lint.py",
        here / "publish.py",
        here / "solve/worth.py",
        here / "container/imatrix.py",
    ]
    sources = "".join(p.read_text() for p in files)
    reported = set(re.findall(r'\bid="([a-z]+(?:-[a-z]+)*)"', sources))
    reported |= set(re.findall(r'"(?:note|warning|error)", "([a-z]+(?:-[a-z]+)*)"\)', sources))
    assert len(reported) > 20
    assert reported - {"warning"} <= set(IDS)
    told = {id_ for id_ in IDS if f'"{id_}"' in sources}
    assert told == set(IDS), "an id that nothing raises"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", "lint", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command(tmp_path: Path, demo_model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    body = "default: q4_0\nfallback: error\nrules: [{match: 'output\\.weight', type: q8_0}]\n"
    recipe.write_text(f"qxmix: 1\nname: r\ntarget: any\n{body}")
    done = run(recipe, demo_model)
    assert done.returncode == 0
    assert "[output-unanchored]" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(("note", "notes"))
    assert run(recipe, demo_model, "--strict").returncode == 3
    problems = json.loads(run(recipe, demo_model, "--json").stdout)
    assert {"severity", "id", "where", "text"} == set(problems[0])
    ids = run("--ids")
    assert ids.returncode == 0
    assert all(i in ids.stdout for i in IDS)
    assert run(recipe).returncode == 2
