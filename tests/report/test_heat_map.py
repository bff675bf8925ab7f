"""The heat map in characters: at any width, with colours and without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix import load_recipe, make_plan
from qxmix.report.heat_map import heat_map, map_text, mark, step_of
from tests.planning.models import header
from tests.planning.zoo import dense, experts

if TYPE_CHECKING:
    from qxmix.plan import Plan

ROOT = Path(__file__).parents[2]
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def plan() -> Plan:
    model = experts("qwen3moe", 27, 512, 96, 8, 8, 2, lead=1, shared=True)
    return make_plan(load_recipe("llama.cpp/q4_k_m"), header(model), None)


@pytest.mark.parametrize("width", [200, 80, 40, 30])
def test_it_fits_and_says_every_tensor_once(plan: Plan, width: int) -> None:
    text = map_text(plan, width=width, colour=False)
    lines = text.split("\n")
    assert max(map(len, lines)) <= width
    found = heat_map(plan)
    rows = [line for line in lines if line and not line.startswith("layer")]
    label = max(8, min(max(len(p) for p in (*found.parts, "token_embd.weight")), width // 3))
    marks = "".join(line[label + 1 :] for line in rows[: -len(text.rpartition("\n\n")[2].split("\n"))])
    for character in "45688":
        n = sum(mark(cell.bpw) == character for cell in found.cells.values())
        assert len(re.findall(character, marks)) >= n
    assert "token_embd.weight 4 Q4_K" in text or "token_em" in text


def test_colours_add_nothing_but_colours(plan: Plan) -> None:
    coloured = map_text(plan, width=80, colour=True)
    assert "\x1b[48;5;" in coloured
    assert ESCAPE.sub("", coloured) == map_text(plan, width=80, colour=False)


def test_layers_are_numbered_where_they_stand() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(dense("llama", 45, 64, 64, 2, 2)), None)
    ruler = next(line for line in map_text(plan, width=80, colour=False).split("\n") if line.startswith("layer"))
    start = ruler.index("0")
    assert [ruler[start + n :].split()[0] for n in (0, 10, 20, 30, 40)] == ["0", "10", "20", "30", "40"]


@pytest.mark.parametrize(("bpw", "expected"), [(1.5, "1"), (4.5, "4"), (6.5625, "6"), (8.5, "8"), (16, "H"), (32, "F")])
def test_a_mark_is_the_digit_of_the_type(bpw: float, expected: str) -> None:
    assert mark(bpw) == expected


def test_steps_ascend() -> None:
    assert [step_of(b) for b in (0.5, 1.5, 2.06, 3.4, 4.25, 5.5, 6.5, 8.5, 16, 32)] == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_the_command(demo_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "plan", "pure/q4_0", str(demo_model), "--map"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("layer")
    assert max(map(len, done.stdout.splitlines())) <= 40
    assert "\x1b" not in done.stdout
