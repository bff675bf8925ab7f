"""The command ``qxmix eval`` in a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from qxmix import apply, load_recipe, make_plan, read_header
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from pathlib import Path


def _run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", "eval", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory, demo_text: bytes) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(demo_text)
    return path


@pytest.mark.parametrize("engine", ["ik", "llama.cpp"])
def test_json_follows_its_schema(engine: str, demo_model: Path, text_file: Path) -> None:
    schema = json.loads((data_dir("schemas") / "eval.schema.json").read_text())
    small = ("--text", text_file, "--ctx", "64", "--chunks", "1", "--engine", engine, "-j", "1", "--json")
    name = {"ik": "ik_llama.cpp"}.get(engine, engine)
    for extra, n_keys in (((), 6), (("--base", demo_model), 13)):
        done = _run(demo_model, *small, *extra)
        assert (done.returncode, done.stderr) == (0, "")
        entries = json.loads(done.stdout)
        jsonschema.validate(entries, schema)
        assert len(entries[0]) == n_keys
        assert entries[0]["file"] == str(demo_model)
        assert entries[0]["engine"] == name
        assert entries[0]["n_scored"] == 31


def test_table(demo_model: Path, text_file: Path) -> None:
    done = _run(demo_model, "--base", demo_model, "--text", text_file, "--ctx", "64", "--chunks", "1", "-j", "1")
    assert (done.returncode, done.stderr) == (0, "")
    head, base, row = done.stdout.splitlines()
    assert " ".join(head.split()) == "file bytes PPL +- mean KLD +- median 99 % same top % RMS dp %"
    assert base.split()[:2] == [str(demo_model), "(base)"]
    assert row.split()[0] == str(demo_model)
    assert row.split()[2:4] == base.split()[2:4]
    assert row.split()[-2:] == ["100.00", "0.00"]


def test_list_types() -> None:
    ik, ml = (set(_run("--list-types", "--engine", engine).stdout.split()) for engine in ("ik_llama.cpp", "llama.cpp"))
    assert set(_run("--list-types").stdout.split()) == ik, "the default"
    assert {"Q4_0", "IQ4_KSS", "Q8_KV_R8"} <= ik
    assert {"Q4_0", "TQ1_0", "NVFP4"} <= ml
    assert "IQ4_KSS" not in ml


def test_bad_calls(demo_model: Path, text_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    cases = [
        ((demo_model,), 2, "--text is missing"),
        (("--text", text_file), 2, "FILE... is missing"),
        ((demo_model, "--text", text_file, "--engine", "exllama"), 2, "'exllama' is not one of"),
        ((demo_model, "--text", text_file, "--chunks", "0"), 2, "0 is not in the range"),
        ((demo_model, "--text", text_file, "-j", "513"), 2, "513 is not in the range 1<=x<=512"),
        ((demo_model, "--text", missing), 1, f"Error: {missing}: the text cannot be read"),
        (("pure/q4_0", "--text", text_file), 1, "is a shipped recipe, not a model"),
        ((missing, "--text", text_file), 1, f"Error: {missing}: "),
        ((demo_model, "--text", text_file, "--ctx", "4096"), 1, "needs at least 8192"),
    ]
    for args, code, message in cases:
        done = _run(*args)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_plot(demo_model: Path, text_file: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller.gguf"
    apply(make_plan(load_recipe("pure/q4_0"), read_header(demo_model)), smaller)
    small = ("--text", text_file, "--ctx", "64", "--chunks", "1", "-j", "1")
    for extra, title in ((("--base", demo_model), "divergence, nats per token"), ((), "perplexity")):
        done = _run(smaller, demo_model, *small, *extra, "--plot", tmp_path / "p.svg")
        assert (done.returncode, done.stderr) == (0, "")
        drawn = (tmp_path / "p.svg").read_text()
        assert title in drawn
        assert ">smaller<" in drawn


def test_a_picture_that_cannot_be_drawn_is_told_before_anything_runs(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('no module')")
    command = [sys.executable, "-m", "qxmix", "eval", str(demo_model), "--text", "none.txt", "--plot"]
    path = os.pathsep.join([str(tmp_path), *sys.path[1:]])
    for picture, told in (("p.bmp", "a picture ends in"), ("p.png", 'pip install "qxmix[plot]"')):
        done = subprocess.run(
            [*command, picture], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
        )
        assert done.returncode == 1
        assert told in done.stderr
