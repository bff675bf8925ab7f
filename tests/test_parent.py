"""Processes that work for another one end with it, whatever they are at."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIDDLE = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"
"""Starts a child that has this process's pipes, which stay open when the one between is gone."""


def read(pipe: int, seconds: float) -> bytes:
    """What comes within the time."""
    assert select.select([pipe], [], [], seconds)[0], "nothing came"
    return os.read(pipe, 1000)


@pytest.mark.skipif(sys.platform == "win32", reason="a child keeps the number of its parent")
@pytest.mark.parametrize(
    ("code", "asked", "answer"),
    [
        (
            "from qxmix.engines.child import main; main('ik_llama.cpp')",
            b'{"op": "type_names", "ids": [0], "nbytes": 0}\n',
            b'{"names": ["f32"], "nbytes": 0}\n',
        ),
        ("from qxmix.quants.kernels.elsewhere import serve; serve(print)", b"Q4_0 encode\n", b"\n"),
    ],
    ids=["engine", "kernels"],
)
def test_they_end_with_the_one_that_started_them(code: str, asked: bytes, answer: bytes) -> None:
    (theirs, ask), (hear, answers) = os.pipe(), os.pipe()
    middle = subprocess.Popen(
        [sys.executable, "-c", MIDDLE, code], cwd=ROOT, stdin=theirs, stdout=answers, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    os.close(answers)
    try:
        os.write(ask, asked)
        assert read(hear, 60) == answer
    finally:
        middle.kill()
        middle.wait()
    assert read(hear, 20) == b"", "closed with the child"
    os.close(ask)
    os.close(hear)
