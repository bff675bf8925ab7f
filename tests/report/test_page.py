"""The page about a plan: what stands in it, and how it behaves in a browser."""

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

from qxmix import load_recipe, make_plan
from qxmix.report.page import plan_page, write_page
from qxmix.report.page.insight import insight_of
from qxmix.solve.predict import predictor_of
from tests.planning.models import header
from tests.planning.zoo import experts
from tests.report.browser import CONTRAST, Browser

if TYPE_CHECKING:
    from qxmix.plan import Plan

ROOT = Path(__file__).parents[2]
HOSTILE = "blk.0.ffn_up<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>.weight"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Of a model with experts, some tensors outside of layers, fallbacks, and one name that wants to be markup."""
    model = experts("qwen3moe", 6, 512, 96, 8, 8, 2, lead=1, shared=True)
    shapes = {**model.shapes, HOSTILE: (256, 64)}
    made = make_plan(load_recipe("llama.cpp/q4_k_m"), header(replace(model, shapes=shapes)), None)
    assert any(t.requested != t.type for t in made.tensors)
    return made


@pytest.fixture(scope="module")
def page(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "plan.html"
    write_page(plan_page(plan), path)
    return path


def test_every_value_is_text_and_names_are_no_markup(plan: Plan) -> None:
    text = plan_page(plan)
    assert "<img" not in text
    assert text.count("<script") == 1
    assert "49" not in re.findall(r"ffn_up&lt;img.*?weight", text)[0]
    for tensor in plan.tensors:
        assert f"<td>{html.escape(tensor.name).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</td>" in text
        assert f"{tensor.nbytes:,}" in text
    assert f"{plan.file_nbytes:,} bytes" in text
    assert all(html.escape(str(p.text), quote=False)[:40] in text for p in plan.problems)


def test_nothing_is_loaded_from_anywhere(plan: Plan) -> None:
    text = plan_page(plan)
    # Quotes in names are escaped, so whatever is quoted is ours.
    assert set(re.findall(r'(?:src|href|action)="([^"]*)"', text)) == {"data:,"}
    assert "url(" not in text
    assert "@import" not in text


def test_the_command_writes_it_beside_the_plan(tmp_path: Path, demo_model: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "qxmix", "plan", "pure/q4_0", str(demo_model), *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run("--html", "p.html")
    assert done.returncode == 0, done.stderr
    assert "Output " in done.stdout
    assert "demo-f16.gguf</title>" in (tmp_path / "p.html").read_text()
    assert "Memory to run" not in (tmp_path / "p.html").read_text()
    assert run("--html", "p.html", "--ctx", 512, "--vram", "1GiB").returncode == 0
    told = (tmp_path / "p.html").read_text()
    assert "Memory to run" in told
    assert "Flags: -c 512" in told
    done = run("--html", "nowhere/p.html")
    assert done.returncode == 1
    assert "nowhere/p.html: there is no folder nowhere; make it first" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_in_a_browser_nothing_fails_and_nothing_leaves(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('#all tbody tr').length") > 60
    assert browser.run("document.images.length") == 0
    entries = browser.happened("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert not entries
    asked = [e["params"]["request"]["url"] for e in browser.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    blocked = browser.run("fetch('https://example.org/').then(() => 'left', () => 'blocked')")
    assert blocked == "blocked"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_text_stands_out(browser: Browser, page: Path, scheme: str, media: str) -> None:
    browser.open(page)
    browser.do("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
    ratio, text = browser.run(CONTRAST)
    browser.do("Emulation.setEmulatedMedia", media="", features=[])
    assert ratio >= 4.5, text


@pytest.mark.slow
def test_the_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    browser.open(page)
    reached = []
    for _ in range(40):
        browser.press("Tab", code=9)
        reached.append(browser.run("document.activeElement.getAttribute('role') || document.activeElement.tagName"))
    n_buttons = browser.run("document.querySelectorAll('button').length")
    assert reached.count("BUTTON") >= n_buttons == 8
    assert {"gridcell", "PRE", "INPUT", "region", "DIV"} <= set(reached)
    browser.run("document.querySelector('[role=gridcell]').focus()")
    first = browser.run("document.getElementById('says').textContent")
    browser.press("ArrowRight", code=39)
    second = browser.run("document.getElementById('says').textContent")
    assert " in layer 0: " in first
    assert " in layer 1: " in second


@pytest.mark.slow
def test_each_map_is_read_beside_itself(browser: Browser, told: str, tmp_path: Path) -> None:
    write_page(told, tmp_path / "p.html")
    browser.open(tmp_path / "p.html")
    browser.press("Tab", code=9)
    browser.run("document.querySelector('[aria-labelledby=divergence] [role=gridcell]').focus()")
    assert "% of the divergence" in browser.run("document.getElementById('says-shares').textContent")
    assert "divergence" not in browser.run("document.getElementById('says').textContent")


@pytest.mark.slow
def test_a_map_of_many_layers_fits_a_desktop(browser: Browser, tmp_path: Path) -> None:
    made = make_plan(load_recipe("llama.cpp/q4_k_m"), header(experts("qwen3moe", 92, 512, 256, 8, 8, 2, lead=1)), None)
    write_page(plan_page(made), tmp_path / "p.html")
    browser.do("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(tmp_path / "p.html")
    wide = "document.querySelector('[aria-labelledby=map]').parentElement"
    assert browser.run(f"{wide}.scrollWidth - {wide}.clientWidth") <= 0
    browser.do("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
def test_a_printer_gets_parts_instead_of_many_sheets(browser: Browser, tmp_path: Path, page: Path) -> None:
    shown = "document.getElementById('tensors').offsetParent !== null"
    large = make_plan(load_recipe("llama.cpp/q4_k_m"), header(experts("qwen3moe", 92, 512, 256, 8, 8, 2, lead=1)), None)
    write_page(plan_page(large), tmp_path / "large.html")
    for path, wanted in ((page, True), (tmp_path / "large.html", False)):
        browser.open(path)
        assert browser.run(shown)
        browser.do("Emulation.setEmulatedMedia", media="print")
        assert browser.run(shown) == wanted
        assert browser.run("document.getElementById('groups').offsetParent !== null")
        browser.do("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_the_table_filters_and_sorts(browser: Browser, page: Path, plan: Plan) -> None:
    browser.open(page)
    browser.run("document.getElementById('filter').value = 'ffn_down Q8_0'")
    browser.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    n_shown = browser.run("[...document.querySelectorAll('#all tbody tr')].filter(r => !r.hidden).length")
    assert 0 < n_shown < len(plan.tensors)
    assert browser.run("document.getElementById('count').textContent") == f"{n_shown} of {len(plan.tensors)} tensors"
    browser.run("document.querySelectorAll('#all th button')[4].click()")
    sizes = browser.run("[...document.querySelectorAll('#all tbody tr')].map(r => r.cells[4].textContent)")
    numbers = [int(text.replace(",", "")) for text in sizes]
    assert numbers == sorted(numbers)
    assert sorted(numbers) == sorted(t.nbytes for t in plan.tensors)


@pytest.mark.slow
def test_a_phone_scrolls_the_wide_parts_only(browser: Browser, page: Path) -> None:
    browser.do("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    browser.do("Emulation.clearDeviceMetricsOverride")


@pytest.fixture(scope="module")
def told(plan: Plan) -> str:
    """The page with a prediction: a guess, as nothing was measured."""
    predictor = predictor_of(plan.header, None)
    return plan_page(plan, insight_of(plan, predictor, ("Q3_K", "IQ4_NL", "Q5_0", "Q6_K", "Q8_0")))


def test_a_prediction_stands_beside_stock_mixes_and_the_best(told: str, plan: Plan) -> None:
    assert "Predicted divergence" in told
    assert "a guess, sensitivities of this model were not measured" in told
    assert "Where the divergence comes from" in told
    labels = re.findall(r"<title>(\S+): [\d.]+ \wiB, ", told)
    assert labels[0] == plan.recipe.name
    assert {"IQ4_XS", "Q5_K_M", "Q6_K"} <= set(labels)
    assert labels.count("Q4_K_M") == 1, "the recipe itself is no stock mix beside it"
    (line,) = re.findall(r'<polyline points="([^"]+)"', told)
    ys = [float(p.split(",")[1]) for p in line.split()]
    assert ys == sorted(ys), "larger files lose less"


def test_shares_of_the_divergence_sum_to_the_whole(plan: Plan) -> None:
    insight = insight_of(plan, predictor_of(plan.header, None), ("Q4_0", "Q8_0"))
    assert sum(insight.shares.values()) == pytest.approx(1)
    assert insight.chart is not None
    assert insight.chart.marks[0].label == plan.recipe.name


@pytest.mark.slow
def test_a_page_with_a_prediction_stands_out_and_fits_a_phone(browser: Browser, told: str, tmp_path: Path) -> None:
    write_page(told, tmp_path / "p.html")
    browser.do("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.open(tmp_path / "p.html")
    assert browser.run("document.documentElement.scrollWidth") <= 360
    browser.do("Emulation.clearDeviceMetricsOverride")
    ratio, text = browser.run(CONTRAST)
    assert ratio >= 4.5, text
    assert not browser.happened("Runtime.exceptionThrown", "Log.entryAdded")


def test_solve_writes_a_page(demo_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "solve", str(demo_model), "--bpw", "5", "-o", "r.yaml", "--html", "r.html"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Size and divergence" in (tmp_path / "r.html").read_text()
