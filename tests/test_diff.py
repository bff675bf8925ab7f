"""Differences of type maps from any pairing of recipes, plans, lock files and models."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxmix.diff import Entry, Side, compare
from qxmix.quants import get
from qxmix.report.diff import diff_json, diff_text

if TYPE_CHECKING:
    from pathlib import Path

types = st.sampled_from(["F16", "Q4_0", "Q8_0", "Q6_K"])
shapes = st.sampled_from([(256, 4), (512, 2), (256, 2, 3)])
entries = st.builds(lambda t, s: Entry(t, s, get(t).nbytes(s)), types, shapes)
sides = st.dictionaries(st.sampled_from([f"blk.{i}.ffn_up.weight" for i in range(5)] + ["output.weight"]), entries)


@given(sides, sides)
def test_the_deltas_add_up_and_turn_around(a: dict[str, Entry], b: dict[str, Entry]) -> None:
    there, back = compare(Side("a", a), Side("b", b)), compare(Side("b", b), Side("a", a))
    total = sum(c.delta or 0 for c in there.changes)
    assert total == sum(e.nbytes or 0 for e in b.values()) - sum(e.nbytes or 0 for e in a.values())
    assert diff_json(there)["nbytes_delta"] == total
    assert {c.name for c in there.changes} == {c.name for c in back.changes}
    assert bool(there.changes) == (a != b)


@given(sides)
def test_nothing_differs_from_itself(side: dict[str, Entry]) -> None:
    diff = compare(Side("a", side), Side("b", dict(reversed(side.items()))))
    assert diff.changes == ()
    assert "No difference" in diff_text(diff)


def test_layers_with_one_change_are_one_line() -> None:
    q4, q6 = (Entry(t, (256, 4), get(t).nbytes((256, 4))) for t in ("Q4_K", "Q6_K"))
    names = [f"blk.{i}.ffn_down.weight" for i in range(8)]
    diff = compare(
        Side("a", dict.fromkeys(names, q4)), Side("b", {**dict.fromkeys(names, q4), **dict.fromkeys(names[:3], q6)})
    )
    lines = diff_text(diff).splitlines()
    assert lines[4].split() == ["ffn_down", "0-2", "3", "Q4_K", "Q6_K", "+792", "bytes"]
    assert lines[-1] == "3 of 8 tensors differ, +792 bytes (+792 bytes)"


def run(*arguments: str | Path, code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def plans(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("plans")
    plan, lock = folder / "q4.json", folder / "q8.lock"
    plan.write_text(run("plan", "pure/q4_0", demo_model, "--json", code=0).stdout)
    run("plan", "pure/q8_0", demo_model, "--lock", lock, code=0)
    return plan, lock


def test_recipes_need_a_model(demo_model: Path) -> None:
    text = run("diff", "pure/q4_0", "pure/q8_0", code=2).stderr
    assert text == (
        "Error: pure/q4_0: is a recipe, and what it decides depends on the model; give one as the third argument\n"
    )
    assert "Q4_0  Q8_0" in run("diff", "pure/q4_0", "pure/q8_0", demo_model, code=1).stdout
    assert "No difference" in run("diff", "pure/q4_0", "pure/q4_0", demo_model, code=0).stdout


def test_a_recipe_beside_a_model_is_planned_on_it(demo_model: Path) -> None:
    assert "F16" in run("diff", demo_model, "pure/q4_0", code=1).stdout


def test_plans_and_locks(demo_model: Path, plans: tuple[Path, Path]) -> None:
    plan, lock = plans
    assert "No difference" in run("diff", plan, "pure/q4_0", demo_model, code=0).stdout
    assert "size unknown" in run("diff", plan, lock, code=1).stdout
    found = json.loads(run("diff", plan, lock, demo_model, "--json", code=1).stdout)
    expected = json.loads(run("diff", "pure/q4_0", "pure/q8_0", demo_model, "--json", code=1).stdout)
    assert found["nbytes_delta"] == expected["nbytes_delta"] > 0
    assert found["changes"] == expected["changes"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no JSON"),
        ("{}", "is neither a plan (qxmix plan --json) nor a lock file"),
        ('{"qxmix_plan": 1, "tensors": [{"name": "x"}]}', "is neither a plan"),
        (
            '{"qxmix_plan": 1, "tensors": [{"name": "x", "type": "Q4_0", "shape": ["a"], "nbytes": 1}]}',
            "is neither a plan",
        ),
        ('{"qxmix_lock": 1, "tensors": []}', "is neither a plan"),
        ('{"a":' * 100_000, "is no JSON"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, demo_model: Path, content: str, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    assert text in run("diff", path, demo_model, code=2).stderr


def test_a_recipe_that_cannot_be_planned(tmp_path: Path, demo_model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nname: r\ntarget: any\ndefault: q6_k\nfallback: error\n")
    assert "(planned on demo-f16.gguf)" in run("diff", recipe, "pure/q4_0", demo_model, code=2).stderr


def test_a_recipe_beyond_its_limits_is_compared_all_the_same(tmp_path: Path, demo_model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nextends: pure/q8_0\nlimits: {max_size: 1KiB}\n")
    done = run("diff", recipe, "pure/q8_0", demo_model, code=0)
    assert "No difference" in done.stdout
    assert f"Warning: apply would refuse: {recipe}:3: limits.max_size: the output has" in done.stderr
    needy = run("diff", "pure/iq2_xxs", "pure/q8_0", demo_model, code=1)
    assert "IQ2_XXS needs an importance matrix" in needy.stderr
    assert "IQ2_XXS  Q8_0" in needy.stdout
