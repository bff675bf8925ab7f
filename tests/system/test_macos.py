"""The commands where macOS' calls are others: on Linux, by a stand-in (``macos/sitecustomize.py``)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.system.test_windows import INTERRUPTED, RECIPE, expected, folder, python, qxmix, sha256_of

STAND_IN = Path(__file__).parent / "macos"
__all__ = ["expected", "folder"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux stands in for it")


@pytest.fixture(autouse=True)
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.system.test_windows.STAND_IN", STAND_IN)


@pytest.mark.parametrize(
    "code", ["import os; os.sched_getaffinity", "open('/proc/meminfo')", "import os; os.fdatasync"]
)
def test_the_stand_in_lacks(tmp_path: Path, code: str) -> None:
    assert "Error" in python(tmp_path, "-c", code).stderr


def test_apply_asks_for_the_disk(
    folder: Path, demo_model: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setenv("SYNCED", str(folder / "synced"))
    again: tuple[str, ...] = ()
    for executor in ("threads", "processes"):
        qxmix(folder, "apply", "recipe.yaml", demo_model, "-o", "out/out.gguf", "--executor", executor, *again)
        assert [p.name for p in (folder / "out").iterdir()] == ["out.gguf"]
        assert sha256_of(folder / "out/out.gguf") == expected
        again = ("--overwrite",)
    synced = (folder / "synced").read_text(encoding="utf-8").splitlines()
    assert {str(folder / "out" / f"out.gguf.{end}") for end in ("partial", "journal")} | {str(folder / "out")} <= set(
        synced
    )
    qxmix(folder, "verify", "out/out.gguf", "--source", demo_model)


def test_an_interrupted_apply_goes_on(folder: Path, demo_model: Path, expected: str) -> None:
    (folder / "stopped").mkdir()
    done = python(folder, "-c", INTERRUPTED, "recipe.yaml", demo_model, "stopped/out.gguf")
    assert done.stdout.strip() == "interrupted", done.stderr
    told = qxmix(folder, "apply", "recipe.yaml", demo_model, "-o", "stopped/out.gguf", "--resume", "--json")
    assert json.loads(told)["n_resumed"] > 0
    assert [p.name for p in (folder / "stopped").iterdir()] == ["out.gguf"]
    assert sha256_of(folder / "stopped/out.gguf") == expected


@pytest.mark.parametrize(
    "arguments",
    [
        "inspect {model} --lattice", "plan recipe.yaml {model} --all", "compare recipe.yaml pure/q8_0 --model {model}",
        "diff pure/q8_0 pure/q4_0 {model}", "warmup q8_0", "measure {model} --types q8_0 --rows 8 -o m.json",
    ],
)  # fmt: skip
def test_other_commands(folder: Path, demo_model: Path, arguments: str) -> None:
    exit_code = 1 if arguments.startswith("diff") else 0
    qxmix(folder, *(word.format(model=demo_model) for word in arguments.split()), exit_code=exit_code)
