"""``qxmix plan`` and ``qxmix types`` as processes: what they print, what they write, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from qxmix.cli.main import COMMANDS
from qxmix.container.header import read_header
from qxmix.errors import PlanError, RunError
from qxmix.plan import make_plan
from qxmix.planning.lock import check_lock, write_lock
from qxmix.quants import QUANT_TYPES
from qxmix.recipe import load_recipe
from qxmix.report.groups import group, layer_ranges
from qxmix.resources import data_dir
from tests.planning.models import write, write_imatrix
from tests.planning.zoo import MODELS, dense

if TYPE_CHECKING:
    from pathlib import Path


WITHOUT_IQ4_KT = """
import dataclasses
from qxmix import quants
quants._BY_NAME["IQ4_KT"] = dataclasses.replace(quants.get("IQ4_KT"), codec="")
from qxmix.cli.main import main
main(prog_name="qxmix")
"""
"""A qxmix that has one encoder less; every type that can be chosen has one."""


def qxmix(
    *arguments: str | Path, code: int = 0, cwd: Path | None = None, program: tuple[str, ...] = ("-m", "qxmix")
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(MODELS["mixtral-8x7b"], tmp_path_factory.mktemp("model") / "mixtral.gguf")


def schema(name: str) -> Any:
    return json.loads((data_dir("schemas") / name).read_text())


def test_text_groups_tensors_and_sums_up(model: Path) -> None:
    lines = qxmix("plan", "llama.cpp/q4_k_m", model).stdout.splitlines()
    assert lines[0].startswith("Recipe Q4_K_M for llama.cpp; model mixtral.gguf: llama, 323 tensors")
    assert len(lines) < 50
    down = [line.split() for line in lines if line.startswith("ffn_down_exps")]
    assert [row[-1] for row in down] == ["q4_k_m.yaml:16", "default"]
    assert "0-3, 6-24/3, 27-31" in "\n".join(lines)
    plan = make_plan(load_recipe("llama.cpp/q4_k_m"), read_header(model))
    assert f"Output       {plan.file_nbytes / 2**20:.3f} MiB" in "\n".join(lines)
    assert f"Bits/weight  {plan.bpw:.4f} over all tensors, {plan.quantized_bpw:.4f} over the encoded ones" in lines


def test_all_lists_every_tensor_with_its_reason(model: Path) -> None:
    text = qxmix("plan", "ik_llama.cpp/iq4_k", model, "--all").stdout
    for i in range(32):
        assert f"\nblk.{i}.attn_v.weight " in text
    assert "kept: it has one dimension" in text
    assert "rules[0] (ik_llama.cpp/iq4_k.yaml:13)" in text


def test_json_fits_its_schema_and_tells_what_the_library_tells(model: Path, tmp_path: Path) -> None:
    matrix = write_imatrix(MODELS["mixtral-8x7b"], tmp_path / "i.dat")
    found = json.loads(qxmix("plan", "ik_llama.cpp/iq2_xs", model, "--imatrix", matrix, "--json", "-j", "3").stdout)
    jsonschema.validate(found, schema("plan.schema.json"))
    assert found["peak_nbytes"]["n_workers"] == 3
    assert len(found["tensors"]) == 323
    assert found["file_nbytes"] == sum(f["nbytes"] for f in found["files"])
    assert {t["importance"] for t in found["tensors"] if t["action"] == "encode"} >= {"blk.0.attn_q.weight", None}


def test_markdown_is_a_table_and_has_no_path(model: Path) -> None:
    text = qxmix("plan", "llama.cpp/iq3_m", model, "--markdown").stdout
    assert text.startswith("## IQ3_M\n")
    assert "| `ffn_down_exps` | " in text
    assert str(model.parent) not in text


def test_split_sizes_are_exact(model: Path) -> None:
    found = json.loads(qxmix("plan", "pure/q8_0", model, "--split-max-size", "40M", "--json").stdout)
    assert len(found["files"]) > 1
    assert all(f["nbytes"] <= 40 << 20 for f in found["files"])
    qxmix("plan", "pure/q8_0", model, "--split-max-size", "40M", "--keep-split", code=2)
    qxmix("plan", "pure/q8_0", model, "--split-max-size", "40 bananas", code=2)


def test_exit_codes(tmp_path: Path, model: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("qxmix: 1\ntarget: llama.cpp\ndefault: q4k\n")
    assert "did you mean 'Q4_K'" in qxmix("plan", bad, model, code=2).stderr
    limits = tmp_path / "limits.yaml"
    limits.write_text("qxmix: 1\nextends: pure/q4_0\nlimits: {max_bpw: 4}\n")
    assert f"Error: {limits}:3: limits.max_bpw: the plan has" in qxmix("plan", limits, model, code=3).stdout
    assert "no such file" in qxmix("plan", "pure/q4_0", tmp_path / "no.gguf", code=1).stderr
    qxmix("plan", "pure/q4_0", model, "--json", "--all", code=2)


def test_strict_makes_a_fallback_an_error(tmp_path: Path) -> None:
    odd = write(dense("llama", 2, 288, 576, 9, 3), tmp_path / "odd.gguf")
    assert "Warning: " in qxmix("plan", "llama.cpp/q4_k_m", odd).stdout
    qxmix("plan", "llama.cpp/q4_k_m", odd, "--strict", code=3)
    qxmix("plan", "pure/q4_0", odd, "--strict")


def test_a_lock_holds_the_plan_and_a_change_breaks_it(tmp_path: Path, model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nextends: llama.cpp/q4_k_m\n")
    lock = tmp_path / "r.lock"
    qxmix("plan", recipe, model, "--lock", lock)
    jsonschema.validate(json.loads(lock.read_text()), schema("lock.schema.json"))
    head = read_header(model)
    check_lock(make_plan(load_recipe(recipe), head), lock)
    recipe.write_text("qxmix: 1\nextends: llama.cpp/q4_k_m\nrules: [{match: attn_q, type: q8_0}]\n")
    with pytest.raises(PlanError) as caught:
        check_lock(make_plan(load_recipe(recipe), head), lock)
    texts = [p.text for p in caught.value.problems]
    assert re.fullmatch("the recipe is another one: its hash is [0-9a-f]{12} and was [0-9a-f]{12} when .*", texts[0])
    assert "blk.0.attn_q.weight would be Q8_0 and was locked as Q4_K" in texts
    assert "27 more tensors differ" in texts


def test_apply_insists_on_a_lock(tmp_path: Path, demo_model: Path) -> None:
    lock, recipe, output = tmp_path / "r.lock", tmp_path / "r.yaml", tmp_path / "o.gguf"
    recipe.write_text("qxmix: 1\nextends: pure/q8_0\n")
    qxmix("plan", recipe, demo_model, "--lock", lock)
    recipe.write_text("qxmix: 1\nextends: pure/q8_0\nrules: [{match: attn_q, type: f32}]\n")
    refused = qxmix("apply", recipe, demo_model, "-o", output, "--locked", lock, code=3)
    assert f"Error: {lock}: the recipe is another one" in refused.stderr
    assert not output.exists()
    recipe.write_text("qxmix: 1\nextends: pure/q8_0\n")
    qxmix("apply", recipe, demo_model, "-o", output, "--locked", lock, "--dry-run")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"qxmix_lock": 2}', "[" * 100_000, "\xff"])
def test_what_is_no_lock_file_is_told_so(tmp_path: Path, model: Path, content: str) -> None:
    lock = tmp_path / "r.lock"
    lock.write_bytes(content.encode("latin-1"))
    with pytest.raises(PlanError, match="is no lock file of this version"):
        check_lock(make_plan(load_recipe("pure/q4_0"), read_header(model)), lock)


def test_a_lock_of_a_plan_with_errors_is_not_written(tmp_path: Path, model: Path) -> None:
    qxmix("plan", "ik_llama.cpp/iq2_xxs", model, "--lock", tmp_path / "r.lock", code=3)
    assert not (tmp_path / "r.lock").exists()
    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        write_lock(make_plan(load_recipe("pure/q4_0"), read_header(model)), tmp_path / "no" / "r.lock")


def test_types_that_cannot_be_written_are_told(tmp_path: Path, demo_model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nname: r\ntarget: ik_llama.cpp\ndefault: iq4_kt\n")
    program = ("-c", WITHOUT_IQ4_KT)
    error = "Error: token_embd.weight: qxmix can size IQ4_KT and not write it, and 26 tensors (token_embd.weight, "
    assert error in qxmix("plan", recipe, demo_model, code=3, program=program).stdout
    refused = qxmix("apply", recipe, demo_model, "-o", tmp_path / "o.gguf", code=3, program=program).stderr
    (line,) = (line for line in refused.splitlines() if line.startswith("Error"))
    assert line.startswith(error)
    assert list(tmp_path.glob("o.gguf*")) == []


def test_the_last_line_counts_what_is_wrong(tmp_path: Path, model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nextends: pure/q4_0\nlimits: {max_bpw: 4}\nrules: [{match: nothing, type: q8_0}]\n")
    assert qxmix("plan", recipe, model, code=3).stdout.splitlines()[-1] == "1 error, 1 warning, 1 note"
    assert qxmix("lint", recipe, model, code=3).stdout.splitlines()[-1].startswith("1 error, 1 warning, ")
    recipe.write_text("qxmix: 1\nextends: pure/q4_0\n")
    assert "error" not in qxmix("plan", recipe, model).stdout.splitlines()[-1]
    recipe.write_text("qxmix: 2\nextends: pure/q4_9\n")
    assert qxmix("validate", "pure/q4_0", recipe, code=2).stderr.splitlines()[-1] == "2 errors in 1 of 2 recipes"
    assert qxmix("validate", recipe, code=2).stderr.splitlines()[-1] == "2 errors"
    assert qxmix("plan", recipe, model, code=2).stderr.splitlines()[-1] == "2 errors"


def test_help_lists_every_command_in_whole_sentences() -> None:
    lines = qxmix("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize(
    ("name", "hint"), [("plam", "; did you mean 'plan'?"), ("quantize", "; did you mean 'apply'?"), ("x", ".")]
)
def test_a_command_that_there_is_not(name: str, hint: str) -> None:
    assert f"Error: No such command '{name}'{hint}\n" in qxmix(name, "a", code=2).stderr


@pytest.mark.parametrize("width", [60, 80, 180])
def test_help_fills_the_terminal_and_no_more(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    longest = max(map(len, qxmix("plan", "--help").stdout.splitlines()))
    assert width - 20 < longest <= width


def test_types_are_listed_with_what_qxmix_does_with_them() -> None:
    found = json.loads(qxmix("types", "--json").stdout)
    assert [t["name"] for t in found] == [t.name for t in QUANT_TYPES]
    assert {t["name"]: t["searches"] for t in found}["Q3_K"] == ["gradient", "heuristic", "exhaustive"]
    text = qxmix("types", "--engine", "llama.cpp").stdout
    assert "Q4_0_R8" in qxmix("types", "--engine", "ik").stdout
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert ("yes" in rows["Q4_0"], "yes" in rows["Q4_1"]) == (True, False)
    assert "TQ1_0" in text
    assert "IQ4_K " not in text


def test_planning_imports_neither_numba_nor_numpy() -> None:
    code = (
        "import sys, qxmix.cli.plan; heavy = {'numba', 'numpy', 'gguf', 'jsonschema', 'rich'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1, 2, 3], "0-3"),
        ([0, 2], "0, 2"),
        ([0, 2, 4, 6], "0-6/2"),
        ([0, 1, 2, 3, 6, 9, 12, 13, 14], "0-3, 6, 9, 12-14"),
        ([1, 2, 5, 60], "1-2, 5, 60"),
    ],
)
def test_layers_in_short(layers: list[int], text: str) -> None:
    assert layer_ranges(f"blk.{i}.ffn_up.weight" for i in layers) == text


def test_groups_hold_every_tensor_once(model: Path) -> None:
    plan = make_plan(load_recipe("llama.cpp/q3_k_m"), read_header(model))
    assert sorted(t.name for g in group(plan) for t in g.tensors) == sorted(t.name for t in plan.tensors)
