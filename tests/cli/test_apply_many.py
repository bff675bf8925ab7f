"""``qxmix apply`` of several recipes: folders, names, shown plans, messages, and what one resume does for all."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

import qxmix
from tests.cli.test_apply import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

RESULT = json.loads((ROOT / "schemas/result.schema.json").read_text())
PLAN = json.loads((ROOT / "schemas/plan.schema.json").read_text())


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with two recipes, one of them in a folder of its own, and what is none."""
    folder = tmp_path / "recipes"
    (folder / "more").mkdir(parents=True)
    (folder / "a.yaml").write_text("qxmix: 1\nname: a\ntarget: any\ndefault: q4_0\nfallback: [q8_0]\n")
    (folder / "more/b.yaml").write_text(
        "qxmix: 1\nname: b\ntarget: any\ndefault: q4_0\nfallback: [q8_0]\nrules: [{category: output, type: q8_0}]\n"
    )
    (folder / "_part.yaml").write_text("qxmix: 1\nrules: []\n")
    (folder / "notes.yaml").write_text("- none\n")
    return folder


def test_a_folder_and_a_shipped_recipe_are_made_as_by_themselves(
    recipes: Path, demo_model: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, recipes, "pure/q4_0", demo_model, "-o", "out", "--json")
    found = json.loads(done.stdout)
    for result in found:
        jsonschema.validate(result, RESULT)
    names = ["demo-a.gguf", "demo-b.gguf", "demo-Q4_0-pure.gguf"]
    assert [r["paths"] for r in found] == [[str(tmp_path / "out" / name)] for name in names]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    for recipe, name in zip((recipes / "a.yaml", recipes / "more/b.yaml", "pure/q4_0"), names, strict=True):
        run(tmp_path, recipe, demo_model, "-o", "alone.gguf", "--overwrite")
        assert (tmp_path / "alone.gguf").read_bytes() == (tmp_path / "out" / name).read_bytes()
    again = run(tmp_path, recipes, "pure/q4_0", demo_model, "-o", "out", code=1)
    assert again.stderr.count("exists already; give --overwrite") == len(names)
    (tmp_path / "out/demo-b.gguf").unlink()
    resumed = run(tmp_path, recipes, "pure/q4_0", demo_model, "-o", "out", "--resume")
    assert resumed.stderr.count("is complete already, and stays as it is") == len(names) - 1
    assert resumed.stdout.count("Wrote") == 1
    assert (tmp_path / "out/demo-b.gguf").exists()


def test_a_command_that_is_repeated_has_nothing_to_do(demo_model: Path, demo_imatrix: Path, tmp_path: Path) -> None:
    """Of one recipe as of several; what is another recipe's output is not taken for it."""
    one = ("pure/q4_0", demo_model, "-o", "x.gguf", "--resume")
    run(tmp_path, *one)
    before = (tmp_path / "x.gguf").stat()
    again = run(tmp_path, *one)
    assert "x.gguf is complete already, and stays as it is" in again.stderr
    assert again.stdout == ""
    found = json.loads(run(tmp_path, *one, "--json").stdout)
    jsonschema.validate(found, RESULT)
    assert found["already_complete"]
    assert found["data_sha256"] == qxmix.read_header(tmp_path / "x.gguf").get("qxmix.data.sha256")
    assert (tmp_path / "x.gguf").stat().st_mtime_ns == before.st_mtime_ns
    for arguments, what in (
        (("pure/q8_0", demo_model), "another recipe"),
        (("pure/q4_0", demo_model, "--imatrix", demo_imatrix), "another importance matrix"),
    ):
        told = " ".join(run(tmp_path, *arguments, "-o", "x.gguf", "--resume", code=1).stderr.split())
        assert f"x.gguf: is finished, and not what this plan makes: it is of {what}; give --overwrite" in told
    (tmp_path / "y.gguf").write_text("notes")
    told = " ".join(run(tmp_path, "pure/q4_0", demo_model, "-o", "y.gguf", "--resume", code=1).stderr.split())
    assert "y.gguf: is finished, and not what this plan makes: it is of another program, or a file" in told
    (tmp_path / "x.gguf").touch()
    shutil.copy(demo_model, tmp_path / "m.gguf")
    os.utime(tmp_path / "m.gguf", ns=(before.st_mtime_ns + 10**12,) * 2)
    told = " ".join(run(tmp_path, "pure/q4_0", "m.gguf", "-o", "x.gguf", "--resume", code=1).stderr.split())
    assert "it is of an older state of the model" in told
    run(tmp_path, "pure/q8_0", demo_model, "-o", "x.gguf", "--resume", "--overwrite")


def test_a_dry_run_shows_all_and_writes_nothing(recipes: Path, demo_model: Path, tmp_path: Path) -> None:
    done = run(tmp_path, recipes, demo_model, "-o", "out", "--dry-run", "-j", 2)
    assert not (tmp_path / "out").exists()
    assert "out/demo-a.gguf" in done.stdout
    assert "out/demo-b.gguf" in done.stdout
    plans = json.loads(run(tmp_path, recipes, demo_model, "--dry-run", "--json", "-j", 2).stdout)
    for plan in plans:
        jsonschema.validate(plan, PLAN)
    n_encoded = [sum(t["action"] == "encode" for t in plan["tensors"]) for plan in plans]
    # All but the output are the same in both.
    assert f"To encode    {sum(n_encoded)} tensors, {max(n_encoded) + 1} of them different" in done.stdout


def test_refusals_name_the_recipe(recipes: Path, demo_model: Path, tmp_path: Path) -> None:
    twice = run(tmp_path, recipes / "a.yaml", recipes / "a.yaml", demo_model, code=1)
    assert (
        f"demo-a.gguf: would be written twice: {recipes / 'a.yaml'} is given two times; leave one out" in twice.stderr
    )
    twice = run(tmp_path, "pure/q4_0", recipes / "a.yaml", "pure/q4_0", demo_model, code=1)
    assert "demo-Q4_0-pure.gguf: would be written twice: pure/q4_0.yaml is given two times" in twice.stderr
    assert "one argument, and it takes two" in run(tmp_path, demo_model, code=2).stderr
    assert "is a recipe, not a model" in run(tmp_path, recipes / "a.yaml", recipes / "more/b.yaml", code=1).stderr
    (tmp_path / "empty").mkdir()
    assert "there is no recipe in this folder" in run(tmp_path, tmp_path / "empty", demo_model, code=1).stderr
    for name in ("x.yaml", "y.yaml"):
        (tmp_path / name).write_text("qxmix: 1\ndefault: q9_9\n")
    invalid = run(tmp_path, "x.yaml", recipes, "y.yaml", demo_model, code=2)
    assert "x.yaml:2" in invalid.stderr
    assert "y.yaml:2" in invalid.stderr
    limited = (recipes / "a.yaml").read_text().replace("name: a", "name: b") + "limits: {max_bpw: 1}\n"
    (recipes / "more/b.yaml").write_text(limited)
    assert "max_bpw" in run(tmp_path, recipes, demo_model, "-o", "out", code=3).stderr
    assert not (tmp_path / "out").exists()


def test_metadata_alone_in_the_first_file(demo_model: Path, tmp_path: Path) -> None:
    bare = ("pure/q4_0", demo_model, "-o", "x.gguf", "--no-tensor-first-split")
    assert "give --split-max-size or --split-max-tensors" in run(tmp_path, *bare, code=2).stderr
    run(tmp_path, *bare, "--split-max-tensors", 20, "--card", "card.md")
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("x-*.gguf"))]
    assert len(sizes) > 1
    assert sizes[0] < min(sizes[1:])
    assert "--split-max-tensors 20 --no-tensor-first-split -o x.gguf" in (tmp_path / "card.md").read_text()


def test_locks_are_given_one_for_each(recipes: Path, demo_model: Path, tmp_path: Path) -> None:
    for name, recipe in (("a", recipes / "a.yaml"), ("b", recipes / "more/b.yaml")):
        command = [sys.executable, "-m", "qxmix", "plan", recipe, demo_model, "--lock", tmp_path / f"{name}.lock.json"]
        subprocess.run([str(c) for c in command], check=True, capture_output=True, cwd=ROOT)
    both = ("--locked", "a.lock.json", "--locked", "b.lock.json")
    run(tmp_path, recipes, demo_model, "-o", "out", *both)
    assert "give one for each" in run(tmp_path, recipes, demo_model, "-o", "out", *both[:2], code=2).stderr
    swapped = (*both[2:], *both[:2])
    assert "another one" in run(tmp_path, recipes, demo_model, "-o", "out", *swapped, code=3).stderr


def test_a_card_tells_how_to_make_each_file_and_its_commands_do(
    recipes: Path, demo_model: Path, demo_imatrix: Path, tmp_path: Path
) -> None:
    shipped, out = "pure/q4_0", tmp_path / "out"
    inputs = (recipes / "a.yaml", shipped, demo_model, "--imatrix", demo_imatrix)
    run(tmp_path, *inputs, "-o", out, "--card", "card.md")
    card = (tmp_path / "card.md").read_text()
    table, _, rest = card.partition("\n\n")
    names = [path.name for path in out.iterdir()]
    assert table.splitlines()[0].startswith("| name | bytes | bpw | types |")
    assert sorted(row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()[2:]) == sorted(names)
    assert all(f"{(out / name).stat().st_size:,}" in table for name in names)
    again = tmp_path / "again"
    again.mkdir()
    for path in (recipes / "a.yaml", demo_model, demo_imatrix):
        shutil.copy(path, again)
    commands = [line for line in rest.splitlines() if line.startswith("qxmix apply ")]
    assert len(commands) == len(names)
    for line in commands:
        run(again, *shlex.split(line)[2:])
    for name in names:
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_a_card_before_anything_is_encoded(recipes: Path, demo_model: Path, tmp_path: Path) -> None:
    arguments = (recipes, demo_model, "-o", "out", "--card", "card.md")
    done = run(tmp_path, *arguments, "--dry-run")
    assert "Dry run: nothing but the card was written." in done.stdout
    assert "names of files are not as the hub has them" in " ".join(done.stderr.split())
    before = (tmp_path / "card.md").read_text()
    assert not (tmp_path / "out").exists()
    run(tmp_path, *arguments)
    assert (tmp_path / "card.md").read_text() == before


def test_a_card_that_cannot_be_written_is_told_at_once(recipes: Path, demo_model: Path, tmp_path: Path) -> None:
    done = run(tmp_path, recipes, demo_model, "-o", "out", "--card", "no/card.md", code=1)
    assert "no/card.md: there is no folder no; make it first" in done.stderr
    assert "give --card" in run(tmp_path, recipes, demo_model, "-o", "out", "--card", recipes, code=1).stderr
    assert "--card" in run(tmp_path, recipes, demo_model, "-o", "out", "--measure", "m.json", code=2).stderr
    assert not (tmp_path / "out").exists()
