"""``qxmix measure`` as a process: what it says, and that nothing is lost when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import pytest

from qxmix.cli import measure as cli
from qxmix.measurement.file import load_measurement
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "qxmix", "measure"]
FAST = ["--types", "q4_0,q8_0", "--rows", "64", "-j", "1"]


def measure(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, demo_text: bytes) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(demo_text)
    return path


def losses(text: Path) -> list[object]:
    return ["--text", text, "--ctx", "64", "--chunks", "1", "--first-chunk", "2", "--measurements", "5"]


def test_errors_alone(demo_model: Path, demo_imatrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    done = measure(demo_model, "--imatrix", demo_imatrix, *FAST, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "errors: about" in done.stderr
    assert done.stdout.strip() == f"{out}: 30 tensors, 2 types"
    found = load_measurement(out)
    assert found.run is None
    assert found.imatrix_sha256 is not None
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_losses_too(demo_model: Path, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "m.json"
    done = measure(demo_model, *FAST, *losses(text), "-o", out)
    assert done.returncode == 0, done.stderr
    assert "8 passes: about" in done.stderr
    assert "30 tensors, 2 types, sensitivities of 5 measured, noise floor" in done.stdout
    schema = json.loads((data_dir("schemas") / "measurement.schema.json").read_text())
    jsonschema.validate(json.loads(out.read_text()), schema)


def test_a_measurement_is_not_replaced_unasked(demo_model: Path, tmp_path: Path, text: Path) -> None:
    """Losses of hours by errors alone, where somebody forgot --text, least of all."""
    out = tmp_path / "m.json"
    assert measure(demo_model, *FAST, *losses(text), "-o", out).returncode == 0
    before = out.read_bytes()
    done = measure(demo_model, *FAST, "-o", out)
    assert done.returncode == 1
    assert "m.json: exists already; give --overwrite to replace it, or -o another name" in done.stderr
    assert out.read_bytes() == before
    assert measure(demo_model, *FAST, "-o", out, "--overwrite").returncode == 0
    assert out.read_bytes() != before


def kill_when(command: list[str], journal: Path, nbytes: int) -> int:
    """Run ``command`` and kill it, with its children, once the journal is longer than ``nbytes``."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size > nbytes:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.002)
    process.communicate()
    return process.returncode


def kills(model: Path, text: Path, folder: Path, n: int) -> None:
    whole, out = folder / "whole.json", folder / "m.json"
    kept = folder / "kept"
    assert measure(model, *FAST, *losses(text), "-o", whole, "--cache", kept).returncode == 0
    command = [*COMMAND, *map(str, [model, *FAST, *losses(text), "-o", out])]
    journal = folder / "m.json.partial"
    rng = np.random.default_rng(7)
    killed = 0
    for _ in range(n):
        size = journal.stat().st_size if journal.exists() else 0
        killed += kill_when(command, journal, size + int(rng.integers(kept.stat().st_size // n))) == -signal.SIGKILL
        if out.exists():  # killed between the last pass and the end of the process
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
            journal.unlink(missing_ok=True)
    assert killed >= n // 2
    done = measure(model, *FAST, *losses(text), "-o", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert not journal.exists()


def test_killed_it_resumes_to_the_same_file(demo_model: Path, text: Path, tmp_path: Path) -> None:
    kills(demo_model, text, tmp_path, 3)


@pytest.mark.slow
def test_killed_at_twenty_moments_it_resumes_to_the_same_file(demo_model: Path, text: Path, tmp_path: Path) -> None:
    kills(demo_model, text, tmp_path, 20)


@pytest.mark.parametrize("phase", [b"{", b",["])  # errors are noted as objects, losses as lists
def test_interrupted_it_says_how_to_go_on(demo_model: Path, text: Path, tmp_path: Path, phase: bytes) -> None:
    out = tmp_path / "m.json"
    command = [*COMMAND, *map(str, [demo_model, *FAST, *losses(text), "-o", out])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "m.json.partial"
    while not (journal.exists() and phase in journal.read_bytes()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted; the same command goes on from {journal}" in said
    assert "Traceback" not in said
    assert not out.exists()


def test_an_engine_that_dies_is_one_error_and_loses_nothing(demo_model: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    command = [*COMMAND, *map(str, [demo_model, *FAST, *losses(text), "-o", out])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "m.json.partial"
    while not (journal.exists() and b",[" in journal.read_bytes()):
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ended with signal SIGKILL" in said
    assert said.count("Error:") == 1
    assert "Traceback" not in said
    n_known = len(journal.read_bytes().splitlines())
    assert measure(demo_model, *FAST, *losses(text), "-o", out).returncode == 0
    assert n_known > 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--rows", "none"], 2, "neither a number of 1 or more nor 'all'"),
        (["--chunks", "0", "--text", "x"], 2, "neither a number of 1 or more nor 'all'"),
        (["--measurements", "3"], 2, "give --text, too"),
        (["--minutes", "nan", "--text", "x"], 2, "'nan' is no finite number"),
        (["--types", "q4_9"], 2, "unknown type 'q4_9'; did you mean Q4_"),
        (["--types", "iq4_ks", "--target", "llama.cpp"], 2, "is not a type of llama.cpp"),
        (["--text", "/nowhere/text"], 1, "the text cannot be read"),
    ],
)
def test_usage(demo_model: Path, tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    done = measure(demo_model, *arguments, "-o", tmp_path / "m.json")
    assert done.returncode == code
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_told_first(demo_model: Path, tmp_path: Path) -> None:
    for out, told in ((tmp_path, "is a folder"), (tmp_path / "no" / "m.json", "there is no folder")):
        done = measure(demo_model, *FAST, "-o", out)
        assert done.returncode == 1
        assert told in done.stderr


def test_what_an_earlier_run_had_done_says_nothing_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 0.0
    monkeypatch.setattr(cli, "notice", said.append)
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = cli._Lines()
    for done, at in ((1, 1.0), (100, 2.0), (101, 42.0), (102, 82.0)):
        now = at
        lines("sensitivities", done, 200)
    assert said[-1] == f"{cli._LABELS['sensitivities']}: 51%, about 65 min left"
