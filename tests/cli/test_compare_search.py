"""``qxmix compare-search`` in a real process: the table, its JSON, what is kept, and going on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from qxmix.resources import data_dir

ROOT = Path(__file__).parents[2]
SMALL = ("--ctx", 64, "--chunks", 2, "-j", 1)


def run(cwd: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "compare-search", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, demo_text: bytes) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(demo_text)
    return path


@pytest.mark.slow
def test_a_line_for_each_type_and_a_column_for_each_search(
    tmp_path: Path, demo_model: Path, demo_imatrix: Path, text: Path
) -> None:
    inputs = (demo_model, "--imatrix", demo_imatrix, "--text", text, "--types", "q4_0,Q3_K", *SMALL)
    done = run(tmp_path, *inputs, "--searches", "heuristic,gradient", "--json")
    entries = json.loads(done.stdout)
    jsonschema.validate(entries, json.loads((data_dir("schemas") / "compare-search.schema.json").read_text()))
    assert [(e["type"], e["search"]) for e in entries] == [
        ("Q4_0", "heuristic"), ("Q4_0", "gradient"), ("Q3_K", "heuristic"), ("Q3_K", "gradient"),
    ]  # fmt: skip
    assert entries[0]["nbytes"] == entries[1]["nbytes"]
    assert entries[0]["mean_kld"] != entries[1]["mean_kld"]
    assert 0 < sum(entries[2]["fallbacks"].values()) < 1, "rows of 448 are no whole super-blocks"
    assert not entries[0]["fallbacks"]
    assert "0 of 8 steps done; quantizing Q4_0, heuristic" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is left"


@pytest.mark.slow
def test_an_interrupted_one_goes_on_and_files_are_kept(tmp_path: Path, demo_model: Path, text: Path) -> None:
    inputs = (demo_model, "--text", text, "--searches", "gradient", *SMALL, "--work", "w", "--keep")
    first = run(tmp_path, *inputs, "--types", "q4_0", "--json")
    assert {p.name for p in (tmp_path / "w").iterdir()} == {"Q4_0-gradient.gguf", "Q4_0-gradient.yaml"}
    # As a kill leaves it: what was finished is noted, and the last line is cut short.
    identity = interrupted_identity(tmp_path, inputs)
    lines = [identity, json.dumps(json.loads(first.stdout)[0] | {"ppl": 4321.0}), '{"type": "Q5']
    (tmp_path / "w" / "done.jsonl").write_text("\n".join(lines))
    done = run(tmp_path, *inputs, "--types", "q4_0,q5_0", "--markdown")
    assert "| Q4_0 |" in done.stdout
    assert "4321.0000" in done.stdout, "what is noted is not made again"
    assert "quantizing Q4_0" not in done.stderr
    assert "quantizing Q5_0" in done.stderr
    (tmp_path / "w" / "done.jsonl").write_text(identity.replace('"ctx": 64', '"ctx": 128') + "\n")
    told = run(tmp_path, *inputs, "--types", "q4_0", code=1).stderr.replace("\n", " ")
    assert "w: holds another experiment (ctx); give another --work" in told


def interrupted_identity(tmp_path: Path, inputs: tuple[object, ...]) -> str:
    """The first line that a run with these inputs writes: caught from one that dies in the engine."""
    code = """
import sys
from qxmix.experiment import run
run.evaluate = lambda *a, **k: sys.exit(9)
from qxmix.cli.main import main
main(prog_name="qxmix")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "compare-search", *map(str, inputs), "--types", "q4_0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    return (tmp_path / "w" / "done.jsonl").read_text().splitlines()[0]


def test_a_text_that_is_too_short_is_refused_before_files_are_written(tmp_path: Path, demo_model: Path) -> None:
    (tmp_path / "short.txt").write_text("the world of a game")
    done = run(tmp_path, demo_model, "--text", "short.txt", "--types", "q4_0", code=1)
    assert "needs at least 1024" in done.stderr
    assert "quantizing" not in done.stderr
    assert not list(tmp_path.rglob("*.gguf"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--types", "q9_9"), "'q9_9' is no type"),
        (("--types", "q8_0"), "Q8_0 has one way only to search its scales"),
        (("--types", "q6_0", "--engine", "llama.cpp"), "llama.cpp does not load Q6_0"),
        (("--searches", "best"), "'best' is no search; there are heuristic, gradient, exhaustive"),
        (("--json", "--markdown"), "exclude each other"),
    ],
)
def test_usage(tmp_path: Path, demo_model: Path, text: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in run(tmp_path, demo_model, "--text", text, *arguments, code=2).stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())
