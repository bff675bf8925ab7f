"""``qxmix recipes``: what is listed, what is printed, and what is said of a name that no recipe has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.container.header import read_header
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe, shipped_names
from qxmix.resources import data_dir

README = Path(__file__).parents[2] / "README.md"


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "qxmix", "recipes", *arguments], capture_output=True, check=False)


def test_all_are_listed_by_folder() -> None:
    done = run()
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert [line.split()[0] for line in lines if line.split("/")[0] and "/" in line.split()[0]] == [
        word
        for folder in dict.fromkeys(n.partition("/")[0] for n in shipped_names())
        for word in (f"{folder}/", *(n for n in shipped_names() if n.startswith(f"{folder}/")))
    ]
    row = next(line for line in lines if line.startswith("llama.cpp/q4_k_m "))
    assert row.split()[1:3] == ["llama.cpp", "Q4_K"]
    assert row.endswith(load_recipe("llama.cpp/q4_k_m").description)


def test_a_folder_is_listed_alone() -> None:
    names = [r["name"] for r in json.loads(run("bartowski", "--json").stdout)]
    assert names == [n for n in shipped_names() if n.startswith("bartowski/")]
    assert b"llama.cpp/q4_k_m" not in run("pure/").stdout


def test_json_says_what_the_recipes_say() -> None:
    found = json.loads(run("--json").stdout)
    assert [r["name"] for r in found] == shipped_names()
    for facts in found:
        recipe = load_recipe(facts["name"])
        assert facts["target"] == recipe.target
        assert facts["default"] == recipe.default
        assert facts["description"] == recipe.description.strip()
        assert Path(facts["path"]) == recipe.path


def test_with_a_model_each_has_the_size_of_its_plan(demo_model: Path) -> None:
    found = json.loads(run("llama.cpp", "--model", str(demo_model), "--json").stdout)
    for facts in found[::5]:
        plan = make_plan(load_recipe(facts["name"]), read_header(demo_model))
        fits = "fallback-error" not in {p.id for p in plan.problems}
        assert (facts["nbytes"], facts["bpw"]) == ((plan.file_nbytes, plan.bpw) if fits else (None, None))
    assert {r["name"] for r in found if r["nbytes"] is None} == {"llama.cpp/q1_0"}
    rows = [line.split() for line in run("llama.cpp", "--model", str(demo_model)).stdout.decode().splitlines()[1:]]
    listed = [row[0] for row in rows if row and row[0].startswith("llama.cpp/")]
    assert listed == [r["name"] for r in sorted(found, key=lambda r: r["nbytes"] or 1 << 60)]
    assert run("pure/q4_0", "--model", str(demo_model)).returncode == 2
    assert run("--model", "none.gguf").returncode == 1


@pytest.mark.parametrize("name", ["pure/q4_0", "llama.cpp/q4_k_m.yaml", "llama.cpp/_names", "llama.cpp/Q4_K_M"])
def test_one_is_printed_to_the_byte_and_is_a_recipe_of_its_own(name: str, tmp_path: Path) -> None:
    done = run(name)
    assert done.returncode == 0
    assert (
        done.stdout
        == (data_dir("recipes") / name.lower())
        .with_name(Path(name.lower()).name.removesuffix(".yaml") + ".yaml")
        .read_bytes()
    )
    if "_names" not in name:
        copied = tmp_path / "mine.yaml"
        copied.write_bytes(done.stdout)
        assert load_recipe(copied).default == load_recipe(name).default


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pure/q4-0", "did you mean 'pure/q4_0'?"),
        ("q4_k_l", "did you mean 'bartowski/q4_k_l'?"),
        ("LLAMA.CPP/Q4_K", "did you mean 'llama.cpp/q"),
        ("../README", "'qxmix recipes' lists them"),
        ("x" * 5000, "'qxmix recipes' lists them"),
        ("", "'qxmix recipes' lists them"),
    ],
)
def test_an_unknown_name(name: str, hint: str) -> None:
    done = run(name)
    assert (done.returncode, done.stdout) == (2, b"")
    error = done.stderr.decode()
    assert "there is no shipped recipe of this name" in error
    assert hint in error
    assert "Traceback" not in error


def test_one_as_json_is_refused() -> None:
    assert run("pure/q4_0", "--json").returncode == 2


def test_the_readme_names_it() -> None:
    assert "| `qxmix recipes [NAME]` |" in README.read_text(encoding="utf-8")


def test_what_running_takes_is_told_of_each(demo_model: Path) -> None:
    machine = ["--ctx", "2048", "--vram", "64MiB"]
    done = CliRunner().invoke(main, ["recipes", "pure", "--model", str(demo_model), *machine])
    assert done.exit_code == 0, done.output
    assert "on GPUs" in done.stdout
    found = json.loads(
        CliRunner().invoke(main, ["recipes", "pure", "--model", str(demo_model), *machine, "--json"]).stdout
    )
    told = [r["running"] for r in found if r["nbytes"] is not None]
    assert told
    assert {r["engine"] for r in told} == {"llama.cpp", "ik_llama.cpp"}
    assert "give it as --model" in CliRunner().invoke(main, ["recipes", "--ctx", "2048", "--ram", "1GiB"]).output
