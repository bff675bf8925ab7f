"""Tables: aligned anywhere, and on a terminal no wider than it and still to be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from qxmix.container.header import read_header
from qxmix.plan import make_plan
from qxmix.planning.memory import Chunking
from qxmix.quants import QUANT_TYPES
from qxmix.recipe import load_recipe
from qxmix.report.plan import plan_text
from qxmix.report.text import table, wrapped
from qxmix.report.types import types_text

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [("attn_output", "0-2, 5-23/3, 26-29", "Q4_K -> Q5_0", "28.7 MiB"), ("output", "", "Q8_0", "1 bytes")]
TITLES = ("tensors", "?layers", "type", "?>size")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_in_a_pipe_every_column_is_there_and_aligned() -> None:
    assert table(TITLES, ROWS).splitlines() == [
        "tensors      layers              type              size",
        "attn_output  0-2, 5-23/3, 26-29  Q4_K -> Q5_0  28.7 MiB",
        "output                           Q8_0           1 bytes",
    ]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (100, "tensors layers type size"),
        (52, "tensors layers type size"),
        (46, "tensors layers type"),
        (30, "tensors type"),
    ],
)
def test_a_narrow_terminal_folds_long_cells_and_goes_without_optional_columns(
    width: int, titles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = plain(table(TITLES, ROWS, terminal=True)).splitlines()
    assert " ".join(lines[0].split()) == titles
    assert max(map(len, lines)) <= width
    assert any("Q4_K -> Q5_0" in line for line in lines), "a short cell stays whole"


def test_a_name_is_folded_only_where_nothing_else_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("a-rather-long-name-of-a-file.gguf", "775.7293", "0.02513")]
    lines = plain(table(("file", ">PPL", ">mean KLD"), rows, terminal=True)).splitlines()
    assert max(map(len, lines)) <= 40
    assert "775.7293  0.02513" in " ".join(lines)


@pytest.mark.parametrize("width", [60, 80])
def test_plans_and_types_fit_narrow_terminals(width: int, demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    plan = make_plan(load_recipe("llama.cpp/q4_k_m"), read_header(demo_model))
    texts = [plan_text(plan, Chunking(n_workers=2), terminal=True), types_text(QUANT_TYPES, terminal=True)]
    for text in map(plain, texts):
        assert max(map(len, text.splitlines())) <= width
    for quant_type in QUANT_TYPES:
        assert re.search(
            rf"^{quant_type.name} .* (both|llama.cpp|ik_llama.cpp) .*(encodes|plans|copies)$",
            plain(texts[1]),
            re.MULTILINE,
        )


def test_lines_are_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert wrapped("Error: a-b/long/path/that/stays is gone", terminal=True) == (
        "Error:\n  a-b/long/path/that/stays\n  is gone"
    )
    assert wrapped("Error: as it is, however long the line", terminal=False).count("\n") == 0
