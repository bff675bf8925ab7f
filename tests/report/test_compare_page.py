"""The page about several entrants: what stands in it, and how it behaves in a browser."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix.report.page import compare_page, write_page
from qxmix.solve.lineup import Entrant, line_up
from qxmix.solve.predict import predictor_of
from tests.planning.models import header
from tests.planning.zoo import experts
from tests.report.browser import CONTRAST
from tests.solve.measured import measurement_of

if TYPE_CHECKING:
    from tests.report.browser import Browser

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def entrants() -> tuple[Entrant, ...]:
    shape = experts("qwen3moe", 6, 512, 96, 8, 8, 2, lead=1, shared=True)
    model = header(shape)
    names = ["llama.cpp/q4_k_m", "ik_llama.cpp/iq4_xs", "pure/q6_k"]
    found = line_up(names, model, None, predictor_of(model, measurement_of(shape)))
    return *found[:-1], replace(found[-1], side=replace(found[-1].side, label=HOSTILE))


def test_every_value_is_text_and_names_are_no_markup(entrants: tuple[Entrant, ...]) -> None:
    text = compare_page(entrants, HOSTILE)
    assert "<img" not in text
    assert text.count("<script") == 1
    assert ">49<" not in text
    assert set(re.findall(r'(?:src|href|action)="([^"]*)"', text)) == {"data:,"}
    plain = html.unescape(text)
    for entrant in entrants:
        assert f"<td>{entrant.label}</td>" in plain
        assert f"{entrant.nbytes:,}" in text
        assert entrant.predicted is not None
        assert f"{entrant.predicted.value:.4g}" in text


def test_squares_have_the_bits_of_parts_and_of_layers(entrants: tuple[Entrant, ...]) -> None:
    text = compare_page(entrants, "")
    squares = re.findall(r'title="pure[^"]*"|title="llama.cpp/q4_k_m, ([^:"]+): ([\d.]+) bpw; ([^"]+)"', text)
    found = {where: (float(bpw), types) for where, bpw, types in squares if where}
    assert {"token_embd", "attn_q", "layer 0", "layer 5"} <= found.keys()
    entry = entrants[0].side.entries["token_embd.weight"]
    assert found["token_embd"][1] == f"1 {entry.type}"
    layer = [e for name, e in entrants[0].side.entries.items() if name.startswith("blk.5.") and "norm" not in name]
    n_weights = sum(e.shape[0] * e.shape[1] * (e.shape[2] if len(e.shape) > 2 else 1) for e in layer if e.shape)
    assert found["layer 5"][0] == pytest.approx(8 * sum(e.nbytes or 0 for e in layer) / n_weights, abs=6e-4)


def test_without_divergence_there_is_no_chart(entrants: tuple[Entrant, ...]) -> None:
    assert "Size and divergence" in compare_page(entrants, "")
    assert "Size and divergence" not in compare_page([replace(e, predicted=None) for e in entrants], "")


def test_the_command_writes_it_beside_the_table(tmp_path: Path, demo_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "compare", "pure/q4_0", "pure/q6_k", "--model", demo_model, "--html", "c.html"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pure/q4_0" in done.stdout
    assert f"2 side by side: {demo_model.name}</title>" in (tmp_path / "c.html").read_text()


@pytest.mark.slow
def test_in_a_browser(browser: Browser, entrants: tuple[Entrant, ...], tmp_path: Path) -> None:
    path = tmp_path / "c.html"
    write_page(compare_page(entrants, "model"), path)
    browser.do("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.open(path)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    browser.do("Emulation.clearDeviceMetricsOverride")
    ratio, worst = browser.run(CONTRAST)
    assert ratio >= 4.5, worst
    browser.run("document.querySelectorAll('#all th button')[1].click()")
    sizes = browser.run("[...document.querySelectorAll('#all tbody tr')].map(r => r.cells[1].textContent)")
    assert sizes == [f"{n:,}" for n in sorted(e.nbytes or 0 for e in entrants)]
    browser.run("document.querySelector('[role=gridcell]').dispatchEvent(new Event('pointerenter'))")
    assert " bpw; " in browser.run("document.getElementById('says').textContent")
    assert not browser.happened("Runtime.exceptionThrown", "Log.entryAdded")
    asked = [e["params"]["request"]["url"] for e in browser.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
