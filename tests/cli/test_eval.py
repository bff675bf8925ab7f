"""The command ``qxmix eval`` in a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

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
