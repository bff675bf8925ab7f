"""What those who met qxmix first stumbled over: streams, names, options, order, colours, errors as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from qxmix.cli.main import SIZES, main
from qxmix.errors import Problem
from qxmix.plan import make_plan
from qxmix.planning.memory import Chunking
from qxmix.recipe import load_recipe
from qxmix.report.plan import plan_text
from qxmix.report.problems import problem_line
from qxmix.report.text import table
from tests.planning.models import Model, facts, header, write

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = {"token_embd.weight": (256, 64), **{f"blk.{i}.attn_q.weight": (256, 64) for i in range(3)}}
MODEL = Model("llama", facts(4, 256, 8, 2), SHAPES)


def run(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def through_pipes(tmp_path: Path, command: str) -> subprocess.CompletedProcess[str]:
    script = command.replace("QXMIX", f"{sys.executable} -m qxmix")
    return subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    ["plan r.yaml m.gguf --imatrix", "apply r.yaml m.gguf --moments", "apply r.yaml m.gguf -o", "plan r.yaml",
     "measure m.gguf -o", "imatrix convert m.gguf -o", "imatrix make m.gguf -o x.gguf --text",
     "apply r.yaml m.gguf --cache", "plan r.yaml m.gguf --lock", "header m.gguf -o", "demo"],
)  # fmt: skip
def test_an_empty_name_is_not_taken_for_none(command: str) -> None:
    assert "the name is empty, as of a variable that is not set" in run(*command.split(), "", code=2)


@pytest.mark.parametrize("name", [".", "/"])
def test_a_folder_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is told before any work."""
    write(MODEL, tmp_path / "m.gguf")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("text")
    monkeypatch.setattr("qxmix.measure.lattice.lattice_of", None)
    assert f"{name}: is a folder; give -o the name of a file" in run(
        "inspect", "m.gguf", "--lattice", "-o", name, code=1
    )
    make = ["imatrix", "make", "m.gguf", "--text", "t.txt", "-o"]
    assert f"{name}: is a folder; give -o the name of a file" in run(*make, name, code=1)
    nowhere = tmp_path / "nowhere" / "m.gguf"
    told = run(*make, "i.gguf", "--moments", nowhere, code=1)
    assert f"{nowhere}: there is no folder {nowhere.parent}; make it first" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "t.txt"]


def test_pipes_are_read_once(tmp_path: Path) -> None:
    write(MODEL, tmp_path / "m.gguf")
    (tmp_path / "base.yaml").write_text("{qxmix: 1, target: llama.cpp, default: q4_0}")
    (tmp_path / "r.yaml").write_text("{qxmix: 1, extends: [base.yaml], default: q8_0}")
    assert through_pipes(tmp_path, "QXMIX diff <(cat base.yaml) r.yaml m.gguf").returncode == 1
    assert through_pipes(tmp_path, "QXMIX diff r.yaml <(cat r.yaml) m.gguf").returncode == 0
    assert through_pipes(tmp_path, "QXMIX plan m.json m.gguf").returncode == 2
    both = through_pipes(tmp_path, "QXMIX diff <(QXMIX plan r.yaml m.gguf --json) <(cat base.yaml) m.gguf")
    assert "4 of 4 tensors differ" in both.stdout
    planned = through_pipes(tmp_path, "cat r.yaml | QXMIX plan - m.gguf")
    assert planned.returncode == 0
    assert "Q8_0" in planned.stdout
    broken = through_pipes(tmp_path, "echo 'qxmix: 1' | QXMIX validate -")
    assert broken.returncode == 2
    assert "standard input:1: the key 'default' is missing" in broken.stderr


@pytest.mark.parametrize("option", SIZES)
def test_options_for_a_size_lead_to_what_has_it(option: str, tmp_path: Path) -> None:
    told = run("plan", "pure/q4_0", write(MODEL, tmp_path / "m.gguf"), option, "20G", code=2)
    assert "qxmix solve MODEL --size 20GiB" in told
    assert "--split-max-size" not in told
    assert "--size" in run("solve", "--help")


def test_errors_as_json(tmp_path: Path) -> None:
    model = write(MODEL, tmp_path / "m.gguf")
    (tmp_path / "bad.yaml").write_text("qxmix: 1\ntarget: nowhere\ndefault: q4_9\n")
    for arguments in (("plan", tmp_path / "bad.yaml", model), ("plan", "pure/q4_0", tmp_path / "absent.gguf")):
        done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
        assert done.exit_code in (1, 2)
        errors = json.loads(done.stdout)["error"]
        assert errors
        assert {"severity", "id", "where", "text"} == set(errors[0])


def test_recipes_by_size_over_all_and_filtered(tmp_path: Path) -> None:
    model = write(MODEL, tmp_path / "m.gguf")
    listed = json.loads(run("recipes", "--model", model, "--target", "llama.cpp", "--no-imatrix", "--json"))
    assert {r["target"] for r in listed} <= {"llama.cpp", "any"}
    assert not any(r["needs_imatrix"] for r in listed)
    text = run("recipes", "pure", "--model", model, "--max-size", "60k")
    sizes = [float(x) for x in re.findall(r"(\d+\.?\d*) KiB", text)]
    assert sizes == sorted(sizes)
    assert 0 < len(sizes) < len(json.loads(run("recipes", "pure", "--json")))
    assert max(sizes) <= 60
    assert "--model" in run("recipes", "--max-size", "1k", code=2)


def test_recipes_that_plan_refuses_have_no_size(tmp_path: Path) -> None:
    quantized = Model("llama", facts(4, 256, 8, 2), SHAPES, types=dict.fromkeys(SHAPES, "Q8_0"))
    listed = json.loads(run("recipes", "pure", "--model", write(quantized, tmp_path / "m.gguf"), "--json"))
    refused = {r["name"]: r for r in listed if r["nbytes"] is None}
    assert "requantize" in refused["pure/q4_0"]["refused"]
    for name in ("pure/q4_0", "pure/q8_0"):
        found = next(r for r in listed if r["name"] == name)
        code = CliRunner().invoke(main, ["plan", name, str(tmp_path / "m.gguf")]).exit_code
        assert (code == 3) == (found["nbytes"] is None)


def test_colours_and_the_end_of_a_long_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    line = problem_line(Problem("a", "b", "warning", "fallback"), terminal=True)
    assert line == "\x1b[1;33mWarning\x1b[0m: a: b [fallback]"
    assert problem_line(Problem("a", "b", "error"), terminal=False) == "Error: a: b"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in problem_line(Problem("a", "b", "error"), terminal=True)
    model = Model("llama", facts(4, 256, 8, 2), {**SHAPES, "x.weight": (100, 4)})
    plan = make_plan(load_recipe("ik_llama.cpp/iq4_ks"), header(model))
    assert any(p.severity == "error" for p in plan.problems)
    for lines, times in ((10, 2), (500, 1)):
        monkeypatch.setenv("LINES", str(lines))
        monkeypatch.setenv("COLUMNS", "200")
        assert plan_text(plan, Chunking(), terminal=True).count("Error: ") == times
    text = plan_text(plan, Chunking())
    assert "Written to   model-IQ4_KS.gguf" in text
    assert "of memory at most, with 1 worker, about 1 s" in text


def test_numbers_stay_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("blk.0.ffn_down_exps", "a cell that is long enough to be folded", "123,456,789", "98.7 GiB")]
    drawn = table(("tensor", "what", ">bytes", ">size"), rows, terminal=True)
    assert "123,456,789" in drawn
    assert "98.7 GiB" in drawn
    assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in drawn.splitlines()) <= 40
