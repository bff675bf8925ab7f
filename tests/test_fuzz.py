"""Short fuzzing of every reader of foreign files; ``tests/fuzz/run.py`` runs as long as one likes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import run
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = {"script": 2000, "command": 2000}
"""Kinds of which every run of the tests tries so many."""
RUN = Path(__file__).parent / "fuzz" / "run.py"


@pytest.mark.parametrize("kind", TARGETS)
def test_mutated_inputs_are_refused_or_sound(kind: str) -> None:
    with warnings.catch_warnings():
        tally = fuzz(kind, runs=RUNS.get(kind, 300), seconds=600 if kind in RUNS else 3, seed=11)
    assert not tally.crashes
    assert tally.runs >= RUNS.get(kind, 100)
    assert tally.accepted > 0
    assert len(tally.errors) > 5


def raises(_data: bytes, _folder: Path) -> str:
    raise KeyError("x")


def warns(_data: bytes, _folder: Path) -> str:
    warnings.warn("careless", RuntimeWarning, stacklevel=1)
    return ""


def hangs(_data: bytes, _folder: Path) -> str:
    while True:
        pass


def waits(_data: bytes, _folder: Path) -> str:
    time.sleep(60)
    return ""


def waits_a_little(_data: bytes, _folder: Path) -> str:
    time.sleep(0.3)
    return ""


def allocates(_data: bytes, _folder: Path) -> str:
    return bytes(5_000_000).decode()[:0]


def reserves(_data: bytes, _folder: Path) -> str:
    return str(len(bytes(1 << 31)))


@pytest.mark.parametrize("target", [raises, warns, hangs, waits, allocates, reserves])
def test_the_fuzzer_notices(target: Callable[[bytes, Path], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "header", target)
    monkeypatch.setattr(run, "SECONDS", 0.1)
    monkeypatch.setattr(run, "WAIT_SECONDS", 0.1 if target is waits else 600)
    with warnings.catch_warnings():
        assert fuzz("header", runs=1, seconds=9, seed=1).crashes


def test_memory_that_is_taken_once_may_be_another_thread_s(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter((1, 5_000_000, 1))  # the first input is run before any is looked at
    monkeypatch.setitem(TARGETS, "header", lambda _data, _folder: bytes(next(sizes)).decode()[:0])
    with warnings.catch_warnings():
        tally = fuzz("header", runs=1, seconds=9, seed=1)
    assert not tally.crashes
    assert next(sizes, None) is None


def test_waiting_for_a_busy_machine_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "header", waits_a_little)
    monkeypatch.setattr(run, "SECONDS", 0.1)
    with warnings.catch_warnings():
        assert not fuzz("header", runs=1, seconds=9, seed=1).crashes


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in TARGETS if k not in RUNS])
def test_mutated_inputs_for_longer(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--runs", "1000000", "--seconds", "5", "--kind", kind, "--seed", "12"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 0 crashes" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is in the extra `fuzz`")
@pytest.mark.parametrize("kind", [k for k in TARGETS if k not in RUNS])
def test_inputs_guided_by_coverage(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--engine", "atheris", "--runs", "100000", "--seconds", "5", "--kind", kind,
         "--keep", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
