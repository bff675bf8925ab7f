"""Sphere pictures: the figures of llama.cpp's PR 12557 and ik_llama.cpp's PR 295, and the command that draws them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import pytest

from qxmix.resources import data_dir
from qxmix.sphere import directions, pictured_types, sphere

if TYPE_CHECKING:
    from qxmix.quants.codec import Search

ROOT = Path(__file__).parents[1]


def run(cwd: Path, *arguments: object, code: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "sphere", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("type_name", "search", "least", "mean"),
    [
        # Own implementations of the three searches in C gave these, at W = 512.
        ("Q3_K", "heuristic", 0.985745, 0.997211),
        ("Q3_K", "gradient", 0.985745, 0.997237),
        ("Q3_K", "exhaustive", 0.985745, 0.997237),
        ("Q4_0", "heuristic", 0.996284, 0.999353),
        ("Q4_0", "gradient", 0.996284, 0.999437),
        ("Q4_0", "exhaustive", 0.996284, 0.999477),
        ("Q5_0", "heuristic", 0.999114, 0.999845),
        ("Q5_0", "gradient", 0.999183, 0.999872),
        ("Q5_0", "exhaustive", 0.999198, 0.999910),
        ("IQ4_NL", "heuristic", 0.997754, 0.999399),
        ("IQ4_NL", "gradient", 0.997940, 0.999489),
        ("IQ4_NL", "exhaustive", 0.998516, 0.999740),
    ],
)
def test_the_figures_of_the_discussion(type_name: str, search: Search, least: float, mean: float) -> None:
    found = sphere(type_name, search, 512)
    assert found.cosines.shape == (256, 512)
    assert found.least == pytest.approx(least, abs=2e-6)
    assert found.mean == pytest.approx(mean, abs=2e-6)
    assert found.most == pytest.approx(1, abs=1e-6)


def test_directions_run_across_without_the_end_and_down_with_it() -> None:
    vectors = directions(8)
    assert vectors.shape == (4, 8, 3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[0], [[0, 0, 1]] * 8, atol=1e-6)
    np.testing.assert_allclose(vectors[-1], [[0, 0, -1]] * 8, atol=1e-6)
    angle = np.arctan2(vectors[1, :, 1], vectors[1, :, 0]) % (2 * np.pi)
    np.testing.assert_allclose(angle, np.arange(8) * np.pi / 4, atol=1e-5)


def test_a_picture_is_as_large_as_asked_and_the_same_each_time(tmp_path: Path) -> None:
    printed = run(tmp_path, "q4_0", "--search", "heuristic", "--search", "gradient", "-W", 320, "-o", "a.png", "--json")
    figures = json.loads(printed.stdout)
    jsonschema.validate(figures, json.loads((data_dir("schemas") / "sphere.schema.json").read_text()))
    assert [f["search"] for f in figures] == ["heuristic", "gradient"]
    assert figures[1]["mean"] > figures[0]["mean"]
    run(tmp_path, "q4_0", "--search", "heuristic", "--search", "gradient", "-W", 320, "-o", "b.png")
    a, b = (tmp_path / "a.png").read_bytes(), (tmp_path / "b.png").read_bytes()
    assert a == b
    width, height = (int.from_bytes(a[at : at + 4], "big") for at in (16, 20))
    assert width > 2 * 320
    assert height > 160


def test_errors(tmp_path: Path) -> None:
    assert "'.docx'" not in run(tmp_path, "q4_0", "-o", "a.docx", code=1).stderr
    assert "a picture ends in .png, .svg or .pdf" in run(tmp_path, "q4_0", "-o", "a.docx", code=1).stderr
    assert "there is no folder nowhere" in run(tmp_path, "q4_0", "-o", "nowhere/a.png", code=1).stderr
    assert "Q4_K searches no scale" in run(tmp_path, "Q4_K", code=2).stderr.replace("\n", " ")
    assert "99 is odd" in run(tmp_path, "q4_0", "-W", 99, code=2).stderr
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('no module')")
    missing = run(tmp_path, "q4_0", "-o", "a.png", code=1, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}").stderr
    assert 'pip install "qxmix[plot]"' in missing.replace("\n", " ")
    assert not list(tmp_path.glob("a.*"))


def test_types_that_have_a_picture() -> None:
    assert pictured_types() == ["Q4_0", "Q5_0", "IQ4_NL", "Q6_0", "Q3_K", "Q6_K", "IQ4_XS"]
    with pytest.raises(ValueError, match="Q8_0 has no search of a single block; Q4_0, "):
        sphere("Q8_0", "gradient", 8)
