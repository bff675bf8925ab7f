"""What the README shows works as it stands there, on the demo model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

import qxmix

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, start: str) -> str:
    found = re.search(rf"```{language}\n({re.escape(start)}.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path, demo_model: Path, demo_imatrix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my-mix.yaml").write_text(block("yaml", "# my-mix.yaml"))
    copy(demo_model, tmp_path / "model-F16.gguf")
    copy(demo_imatrix, tmp_path / "model.imatrix")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the checkout, installed or not
    return tmp_path


@pytest.mark.slow
def test_the_first_recipe_and_its_commands(folder: Path) -> None:
    for line in block("sh", "qxmix plan my-mix.yaml").splitlines():
        arguments = line.partition("#")[0].split()[1:]
        done = subprocess.run([sys.executable, "-m", "qxmix", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in folder.glob("*-my-mix.gguf")] == ["qxmix-demo-my-mix.gguf"]


@pytest.mark.slow
def test_the_python_interface(folder: Path) -> None:
    ones = np.ones((2, 256), dtype=np.float32)
    names = {"x": ones, "columns": ones[0], "a": np.eye(256, dtype=np.float32)}
    exec(block("python", "import qxmix"), names)  # noqa: S102 - our own text
    header = qxmix.read_header(folder / "model-my-mix.gguf")
    assert {t.type for t in header.tensors} == {"F32", "Q8_0", "Q6_K", "Q5_K", "Q5_0", "IQ4_XS"}
