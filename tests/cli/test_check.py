"""``qxmix check``: all recipes of a repository, on the headers kept in it, with one exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from qxmix.check import check, find_recipes
from qxmix.cli.main import main
from qxmix.container.header import read_shards
from qxmix.container.header_write import write_header
from qxmix.planning.outline import outline
from qxmix.planning.view import ModelView
from qxmix.recipe.load import _structure, load_recipe, shipped_names
from qxmix.resources import data_dir
from tests.planning.models import header
from tests.planning.test_published import glm_4_6

ROOT = Path(__file__).parents[2]
GOOD = """# Mine.
qxmix: 1
name: good
target: any
default: q8_0
rules:
  - {category: attn_v, type: q4_0}
fallback: [f16]
"""


def run(cwd: Path, *arguments: object, code: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", *map(str, arguments)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def repository(tmp_path: Path, demo_model: Path) -> Path:
    (tmp_path / "headers").mkdir()
    write_header(read_shards(demo_model), tmp_path / "headers" / "demo.gguf")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "good.yaml").write_text(GOOD)
    (tmp_path / "recipes" / "_part.yaml").write_text("qxmix: 1\nrules: nonsense\n")
    (tmp_path / "ci.yaml").write_text("jobs: {build: {steps: []}}\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "bad.yaml").write_text("qxmix: 9\n")
    return tmp_path


def test_all_is_well(repository: Path) -> None:
    done = run(repository, "check", "--model", "headers", code=0)
    assert "recipes/good.yaml" in done.stdout
    assert done.stdout.rstrip().endswith("1 recipe, nothing to say.")
    assert "_part" not in done.stdout


def test_what_a_commit_hook_hands_over(repository: Path) -> None:
    done = run(repository, "check", "ci.yaml", "recipes/good.yaml", "--model", "headers/demo.gguf", code=0)
    assert "ci.yaml" not in done.stdout
    assert "No recipe is here" in run(repository, "check", "ci.yaml", code=0).stdout


def test_an_invalid_recipe(repository: Path) -> None:
    (repository / "recipes" / "bad.yaml").write_text(GOOD.replace("q4_0", "q4_9"))
    done = run(repository, "check", "--model", "headers", code=2)
    assert "bad.yaml:7: rules[0].type" in done.stdout
    assert "1 of 2 recipes with problems." in done.stdout


def test_a_plan_that_draws_a_warning(repository: Path) -> None:
    (repository / "recipes" / "bad.yaml").write_text(GOOD.replace("attn_v", "attn_kv_b"))
    done = run(repository, "check", "--model", "headers", code=3)
    assert "Warning on demo.gguf: " in done.stdout
    assert "1 warning" in done.stdout


def test_limits_and_locks(repository: Path) -> None:
    recipe = repository / "recipes" / "good.yaml"
    run(repository, "plan", recipe, "headers/demo.gguf", "--lock", "recipes/good.demo.lock.json", code=0)
    assert "as locked" in run(repository, "check", "--model", "headers", code=0).stdout
    recipe.write_text(GOOD.replace("q4_0", "q5_0"))
    done = run(repository, "check", "--model", "headers", code=3)
    assert "the recipe is another one" in done.stdout
    assert "attn_v.weight would be Q5_0 and was locked as Q4_0" in done.stdout
    assert "written anew by 'qxmix plan RECIPE MODEL --lock FILE'" in " ".join(done.stdout.split())
    recipe.write_text(GOOD + "limits: {max_bpw: 2}\n")
    assert "bits per weight" in run(repository, "check", "--model", "headers", code=3).stdout


def test_json(repository: Path) -> None:
    (repository / "recipes" / "bad.yaml").write_text("qxmix: 1\nname: x\n")
    found = json.loads(run(repository, "check", "--model", "headers", "--json", code=2).stdout)
    jsonschema.validate(found, json.loads((data_dir("schemas") / "check.schema.json").read_text()))
    assert [(f["recipe"], f["exit_code"]) for f in found] == [("recipes/bad.yaml", 2), ("recipes/good.yaml", 0)]


def test_what_is_not_there(repository: Path) -> None:
    assert "nowhere: no such file or folder" in run(repository, "check", "nowhere", code=1).stderr
    assert "there is no .gguf file in this folder" in run(repository, "check", "--model", "recipes", code=1).stderr


def test_all_shipped_recipes_are_found() -> None:
    found = find_recipes([data_dir("recipes")])
    assert len(found) == len(shipped_names())
    assert not any(p.name.startswith("_") for p in found)


def test_the_time_of_a_list() -> None:
    """At most four times that of sizes alone, files read and models seen anew by both."""
    paths, model = find_recipes([data_dir("recipes")])[::4], header(glm_4_6())
    list(check(paths[:1], [model]))

    def sizes() -> None:
        view = ModelView(model)
        for path in paths:
            outline(load_recipe(path), view)

    times = []
    for work in (sizes, lambda: list(check(paths, [model]))):
        _structure.cache_clear()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    assert times[1] <= 4 * times[0]


def test_the_hook_is_what_pre_commit_takes() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["entry"], hook["language"]) == ("qxmix-check", "qxmix check", "python")


def commit(repository: Path, *changed: str) -> int | None:
    """As pre-commit does: run the hook with its arguments if a changed path matches ``files``; its exit code."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    chosen = [path for path in changed if re.search(hook["files"], path)]
    if not chosen:
        return None
    words = [*hook["entry"].split()[1:], "--model", "headers", *(chosen if hook.get("pass_filenames", True) else [])]
    with contextlib.chdir(repository):
        return CliRunner().invoke(main, words).exit_code


def test_whatever_concerns_a_recipe_starts_the_hook(repository: Path) -> None:
    """A lock or a header alone, and a recipe that others extend."""
    assert commit(repository, "README.md", "src/x.py") is None
    assert commit(repository, "recipes/good.yaml") == 0
    lock = repository / "recipes" / "good.demo.lock.json"
    run(repository, "plan", "recipes/good.yaml", "headers/demo.gguf", "--lock", lock, code=0)
    assert commit(repository, "recipes/good.demo.lock.json") == 0
    lock.write_text(lock.read_text().replace("Q4_0", "Q5_0", 1))
    assert commit(repository, "recipes/good.demo.lock.json") == 3
    assert commit(repository, "headers/demo.gguf") == 3
    assert commit(repository, "recipes/_part.yaml") == 3


def test_a_lock_is_of_the_recipe_with_the_longest_name(repository: Path) -> None:
    (repository / "recipes" / "good-2.yaml").write_text(GOOD.replace("q4_0", "q5_0"))
    for name in ("good", "good-2"):
        words = ("plan", f"recipes/{name}.yaml", "headers/demo.gguf", "--lock", f"recipes/{name}.lock.json")
        run(repository, *words, code=0)
    found = json.loads(run(repository, "check", "--model", "headers", "--json", code=0).stdout)
    assert [(f["recipe"], f["locked"]) for f in found] == [("recipes/good-2.yaml", True), ("recipes/good.yaml", True)]
