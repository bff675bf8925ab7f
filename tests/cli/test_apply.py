"""``qxmix apply`` as a process: files, exit codes, messages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gguf
import jsonschema
import numpy as np
import pytest

from qxmix import load_imatrix, load_recipe, make_plan, read_header
from qxmix.planning.naming import default_name
from tests.execute.plans import f16_model, write_model

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "qxmix", "apply", *map(str, arguments)]


def run(cwd: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_output_is_as_planned_and_named_after_model_and_recipe(
    demo_model: Path, demo_imatrix: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "pure/q4_0", demo_model, "--imatrix", demo_imatrix)
    out = tmp_path / "demo-Q4_0-pure.gguf"
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    plan = make_plan(load_recipe("pure/q4_0"), read_header(demo_model), load_imatrix(demo_imatrix))
    assert out.stat().st_size == plan.file_nbytes
    assert f"{plan.file_nbytes:,} bytes" in done.stdout
    header = read_header(out)
    assert [(t.name, t.type, t.offset) for t in header.tensors] == [(t.name, t.type, t.offset) for t in plan.tensors]
    assert header.get("qxmix.imatrix.file") == demo_imatrix.name
    recipe = (ROOT / "recipes/pure/q4_0.yaml").read_bytes()
    assert header.get("qxmix.recipe.sha256") == hashlib.sha256(recipe).hexdigest()
    assert len(gguf.GGUFReader(out).tensors) == len(plan.tensors)


def test_json_has_a_digest_for_each_tensor(demo_moe_model: Path, tmp_path: Path) -> None:
    result = json.loads(run(tmp_path, "pure/q8_0", demo_moe_model, "-o", "x.gguf", "--json", "--report").stdout)
    jsonschema.validate(result, json.loads((ROOT / "schemas/result.schema.json").read_text()))
    assert result["paths"] == [str(tmp_path / "x.gguf")]
    assert len({t["sha256"] for t in result["tensors"]}) > len(result["tensors"]) // 2
    measured = [t["deviation"] for t in result["tensors"] if "deviation" in t]
    assert measured
    assert all(0 < m["relative_error"] < 0.01 and m["cosine"] > 0.9999 for m in measured)


def test_a_report_is_a_table(demo_model: Path, tmp_path: Path) -> None:
    text = run(tmp_path, "pure/q4_0", demo_model, "-o", "x.gguf", "--report").stdout
    assert "weighted RMSE" in text
    assert "blk.0.ffn_down.weight" in text


def test_a_dry_run_writes_nothing(demo_model: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "pure/q4_0", demo_model, "--dry-run")
    assert "nothing was written" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_folder_as_output(demo_model: Path, tmp_path: Path) -> None:
    run(tmp_path, "pure/q4_0", demo_model, "-o", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["demo-Q4_0-pure.gguf"]
    run(tmp_path, "pure/q4_0", demo_model, "-o", "new/")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["demo-Q4_0-pure.gguf"]


def test_folders_of_the_output_are_made(demo_model: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "pure/q4_0", demo_model, "-o", "a/b/c.gguf")
    assert (tmp_path / "a/b/c.gguf").exists()
    assert "Note: there is no folder a/b yet; it is made" in done.stderr
    assert "no folder" not in run(tmp_path, "pure/q4_0", demo_model, "-o", "a/b/d.gguf").stderr
    for code, refused in ((1, ("-o", "a/b/c.gguf/d.gguf")), (3, ("-o", "new/e.gguf", "--memory", "1M"))):
        assert "it is made" not in run(tmp_path, "pure/q4_0", demo_model, *refused, code=code).stderr
    assert not (tmp_path / "new").exists()


def test_a_split_output_is_read_back(demo_model: Path, tmp_path: Path) -> None:
    run(tmp_path, "pure/q4_0", demo_model, "-o", "x.gguf", "--split-max-tensors", "9")
    first = min(tmp_path.glob("x-00001-of-*.gguf"))
    run(tmp_path, "pure/q4_0", demo_model, "-o", "whole.gguf")
    split, whole = read_header(first), read_header(tmp_path / "whole.gguf")
    assert [(t.name, t.type, t.nbytes) for t in split.tensors] == [(t.name, t.type, t.nbytes) for t in whole.tensors]
    for t, other in zip(split.tensors, whole.tensors, strict=True):
        data = split.paths[t.shard].read_bytes()[t.offset : t.offset + t.nbytes]
        assert data == whole.path.read_bytes()[other.offset : other.offset + other.nbytes]


@pytest.mark.slow
def test_bad_arguments_and_places(demo_model: Path, tmp_path: Path) -> None:
    model = shutil.copy(demo_model, tmp_path / "m.gguf")
    (tmp_path / "file").touch()
    (tmp_path / "there.gguf").touch()
    (tmp_path / "held.gguf.partial").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    for arguments, code, text in (
        (("pure/q4_0", "m.gguf", "-o", "m.gguf"), 1, "is the model itself"),
        (("pure/q4_0", "m.gguf", "-o", "there.gguf"), 1, "give --overwrite to replace it"),
        (("pure/q4_0", "m.gguf", "-o", "file/x.gguf"), 1, "is a file, and the output would be inside it"),
        (("pure/q4_0", "m.gguf", "-o", "pipe", "--overwrite"), 1, "is a device, pipe or socket"),
        (("pure/q4_0", "m.gguf", "-o", "/dev/stdout"), 1, "/dev/stdout: is a device, pipe or socket"),
        (("pure/q4_0", "m.gguf", "-o", "/dev/fd/1"), 1, "/dev/fd/1: is a device, pipe or socket"),
        (("pure/q4_0", "m.gguf", "-o", "held.gguf"), 1, "held.gguf.partial: is a folder"),
        (("pure/q4_0", "m.gguf", "-o", "circle"), 1, "lead in a circle"),
        (("pure/q4_0", "m.gguf", "-o", "n" * 250), 1, "give a shorter one"),
        (("pure/q4_0", "m.gguf", "-o", "n" * 300), 1, "give a shorter one"),
        (("pure/q4_0", "m.gguf", "-j", "0"), 2, "0 is not in the range"),
        (("pure/q4_0", "m.gguf", "--memory", "lots"), 2, "--memory"),
        (("pure/q4_0", "m.gguf", "--memory", "1M"), 3, "raise --memory or use fewer workers"),
        (("pure/q4_0", "m.gguf", "--executor", "fast"), 1, "unknown executor 'fast'"),
        (("pure/q4_0", "gone.gguf"), 1, "gone.gguf"),
        (("pure/q9_0", "m.gguf"), 2, "q9_0"),
        (("pure/q4_0", "m.gguf", "--imatrix", "m.gguf"), 1, "m.gguf"),
    ):
        before = sorted(p.name for p in tmp_path.iterdir())
        done = run(tmp_path, *arguments, code=code)
        assert text in done.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert Path(model).read_bytes() == demo_model.read_bytes()


def test_the_name_of_an_imatrix_that_is_no_utf8(demo_model: Path, demo_imatrix: Path, tmp_path: Path) -> None:
    imatrix = tmp_path / os.fsdecode(b"a\xff.dat")
    shutil.copy(demo_imatrix, imatrix)
    run(tmp_path, "pure/q4_0", demo_model, "--imatrix", imatrix, "-o", "x.gguf")
    assert read_header(tmp_path / "x.gguf").get("qxmix.imatrix.file") == "a?.dat"


def test_a_cache_that_cannot_be_filled_is_only_told(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "gone")
    done = run(tmp_path, "pure/q4_0", demo_model, "-o", "x.gguf", "--cache", "cache")
    assert "\nWarning: cache: not all tensors could be added to the cache" in done.stdout
    assert (tmp_path / "x.gguf").exists()


def test_few_bytes_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("{qxmix: 1, target: llama.cpp, default: q8_0}")
    told = run(tmp_path, "r.yaml", f16_model(tmp_path / "m.gguf", {}), "-o", "x.gguf").stdout
    assert (nbytes := (tmp_path / "x.gguf").stat().st_size) < 1024
    assert f"x.gguf: {nbytes} bytes, " in told


def test_strict_refuses_what_a_plain_apply_does(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "m.gguf", {"token_embd.weight": (64, 32), "blk.0.attn_q.weight": (48, 32)})
    refused = run(tmp_path, "pure/q4_0", model, "-o", "x.gguf", "--strict", code=3).stderr
    assert "With --strict warnings are errors:\nError: " in refused
    assert "Warning: " not in refused
    assert not (tmp_path / "x.gguf").exists()
    run(tmp_path, "pure/q4_0", model, "-o", "x.gguf")


def test_no_space_is_told_before_any_work(tmp_path: Path) -> None:
    shm = Path("/dev/shm")  # noqa: S108
    if not shm.is_dir():
        pytest.skip("no second file system to fill")
    done = run(tmp_path, "pure/q8_0", huge(tmp_path / "huge.gguf"), "-o", shm / "qxmix-test.gguf", code=1)
    assert "GB are needed and" in done.stderr
    assert not list(shm.glob("qxmix-test*"))


def huge(path: Path) -> Path:
    """Write a model whose 550 GB of data are a hole in the file."""
    writer = gguf.GGUFWriter(path, "llama")
    nbytes = 2 << 38
    writer.add_tensor_info("token_embd.weight", (1 << 18, 1 << 20), np.dtype("float16"), nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + nbytes)
    return path


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": (512, 64)} | {f"blk.{i}.ffn_up.weight": (512, 8200) for i in range(12)}
    model = f16_model(tmp_path / "m.gguf", shapes)
    arguments = ("pure/iq4_nl", model, "-o", "x.gguf", "-j", 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "x.gguf.journal"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)  # how soon is held by test_resume, in time of the processor
    assert process.returncode == 130
    assert f"qxmix apply pure/iq4_nl {model} -o x.gguf -j 1 --resume" in stderr
    done = run(tmp_path, *arguments, code=1)
    assert "go on with --resume" in done.stderr
    done = run(tmp_path, *arguments, "--resume")
    assert "pieces were there already" in done.stdout


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("SmolLM2-135M-Instruct-F16.gguf", None, "SmolLM2-135M-Instruct"),
        ("Qwen3-8B-BF16-00001-of-00002.gguf", None, "Qwen3-8B"),
        ("mistral.Q8_0.GGUF", None, "mistral"),
        ("GLM-UD-IQ2_XXS.gguf", None, "GLM"),
        ("model.gguf", "Tiny Llama 1.1B", "Tiny-Llama-1.1B"),
        ("ggml-model-f16.gguf", None, "model"),
        ("a b f16.gguf", None, "a b"),
        ("sha256-6a0746a1ec1aef3e7ec53868f220ff6e389f6f8ef87a01d77c96807de94ca2aa", "Tiny", "Tiny"),
        ("6a0746a1ec1aef3e7ec53868f220ff6e389f6f8ef87a01d77c96807de94ca2aa", "Tiny", "Tiny"),
    ],
)
def test_default_names(tmp_path: Path, model: str, name: str | None, expected: str) -> None:
    path = write_model(tmp_path / "x.gguf", {}, **({"general_name": name} if name else {}))
    plan = make_plan(load_recipe("pure/q4_0"), read_header(path))
    plan = replace(plan, header=replace(plan.header, paths=(tmp_path / model,)))
    assert default_name(plan) == f"{expected}-Q4_0-pure.gguf"


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("GLM-4.6-IQ2_KL", "GLM-4.6-IQ2_KL.gguf"),
        ("glm-4.6-iq2_kl", "glm-4.6-iq2_kl.gguf"),
        ("GLM-4.6V-IQ2_KL", "GLM-4.6-GLM-4.6V-IQ2_KL.gguf"),
        ("GLM-4.6", "GLM-4.6-GLM-4.6.gguf"),
    ],
)
def test_a_recipe_that_has_the_name_of_the_model(tmp_path: Path, recipe: str, expected: str) -> None:
    plan = make_plan(load_recipe("pure/q4_0"), read_header(write_model(tmp_path / "x.gguf", {})))
    header = replace(plan.header, paths=(tmp_path / "GLM-4.6-BF16-00001-of-00015.gguf",))
    plan = replace(plan, recipe=replace(plan.recipe, name=recipe), header=header)
    assert default_name(plan) == expected
