"""The README's tables of speed are those of the committed figures, and say what the figures say."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import pytest

from tests.bench import estimates, machine, report
from tests.bench.machine import write_run

if TYPE_CHECKING:
    from pathlib import Path


def test_the_readme_has_the_committed_figures() -> None:
    text = report.README.read_text(encoding="utf-8")
    assert report.filled(text) == text, "run python -m tests.bench.report"


def test_every_file_of_figures_is_shown() -> None:
    assert {path.stem for path in report.RESULTS.glob("*.json")} <= {
        file for _, files in report.TABLES.values() for file in files
    }


def test_estimates_go_by_the_committed_figures() -> None:
    assert estimates.MODULE.read_text(encoding="utf-8") == report.estimated(), "run python -m tests.bench.report"


def test_what_estimates_go_by() -> None:
    """An interleaved type is as its base; what was not measured is None."""
    plain = {"imatrix": {"qxmix": 95.713, "exhaustive": 15.224, "ik_llama.cpp": 9.0}, "none": {"qxmix": 2208.659}}
    kernels = report.Run({}, "", tuple({"type": t, "speed": s} for t, s in (
        ("Q4_0", plain), ("Q4_0_R8", plain), ("IQ2_XS", {"imatrix": {"qxmix": 8.534}}), ("IQ3_KT", {}))))  # fmt: skip
    fed = report.Run({}, "", ({"type": "Q4_0", "speed": {"imatrix": 90.0, "feedback": 50.0}},))
    entries = estimates.estimates(kernels, fed).partition("= {\n")[2].partition("}")[0]
    assert entries == '    "Q4_0": (95.7, 2210.0, 15.2, 50.0),\n    "IQ2_XS": (8.53, None, None, None),\n'


def test_a_table_says_how_many_times_the_engines_speed() -> None:
    speed = {"imatrix": {"qxmix": 30.0, "ik_llama.cpp": 12.0, "exhaustive": 6.0}}
    run = report.Run({"processor": "P", "vector_bits": 256}, "", ({"type": "Q4_0", "speed": speed},))
    assert "| Q4_0 | 30 | 2.50x | - | - | - | - | - | - | - |" in report.kernels_table(run, None)
    assert "| Q4_0 | 6.0 | 0.50x | 5.00x |" in report.exhaustive_table(run)


def test_a_processor_without_a_name_is_called_by_its_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n")
    for path in (tmp_path / "cpuinfo", tmp_path / "none"):
        monkeypatch.setattr(machine, "CPUINFO", path)
        monkeypatch.setattr(platform, "processor", lambda: "")
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert machine.facts()["processor"] == "aarch64"


def test_what_feedback_does_is_told_as_a_change() -> None:
    error = {"attn_q": {"3": 0.5}, "ffn_down": {"3": 0.9, "10": 1.0}}
    run = report.Run({}, "", ({"type": "Q4_0", "error": error},))
    speed = report.Run({}, "", ({"type": "Q4_0", "speed": {"imatrix": 60.0, "feedback": 30.0}},))
    row = "| Q4_0 | -50.0 % | - | - | -5.1 % | +0.0 % (ffn_down 10) | 30 | 0.50x |"
    assert row in report.feedback_table(run, speed)
    assert "| +0.0 % (ffn_down 10) | - | - |" in report.feedback_table(run, None)
    assert "Of 3 tensors and types on 2 layers more than 1 % above: none." in report.feedback_table(run, None)
    error["attn_q"]["10"] = 1.02
    assert "more than 1 % above: Q4_0 attn_q 10 (+2.0 %)." in report.feedback_table(run, None)


def test_a_block_that_is_worse_than_the_best_rounding_is_told() -> None:
    run = report.Run({}, "", ({"type": "Q4_0", "blocks": 1_003_520, "worse": 1, "worst": 9.946e-14},))
    assert "| Q4_0 | 1,003,520 | 1 | 1e-13 |" in report.brute_table(run)


def test_growth_says_what_was_not_measured() -> None:
    rows = [{"n": 2, "seconds": 1.234}, {"n": 16, "seconds": 0.5, "reasoned": True}]
    run = report.Run({"processor": "P", "vector_bits": 256}, "", ({"what": "threads", "rows": rows},))
    assert "| threads, an apply to Q6_K | 2: 1.2; 16: 0.5 * |" in report.scale_table(run)


def test_the_first_use_is_told_with_and_without_shipped_kernels() -> None:
    seconds = {"here": {"processor": 9.87, "wall": 12.3}, "with shipped kernels": {"processor": 0.41, "wall": 0.5}}
    run = report.Run({"processor": "P", "vector_bits": 256}, "", ({"first": "Q4_0", "seconds": seconds},))
    table = report.cold_table(run)
    assert "| Q4_0 | 9.9 | 0.41 | 12 | 0.5 |" in table
    assert "the machine was busy" not in table
    seconds["here"]["wall"] = 20.0
    assert "the machine was busy" in report.cold_table(run)


def test_a_readme_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place <!-- speed: kernels -->"):
        report.filled("")


def test_types_measured_anew_replace_their_figures_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    write_run(path, "kernels", {"rounds": 3}, [{"type": "Q4_0", "n": 1}, {"type": "Q8_0", "n": 1}], "type")
    write_run(path, "kernels", {"rounds": 3}, [{"type": "Q4_0", "n": 2}], "type")
    assert json.loads(path.read_text())["results"] == [{"type": "Q8_0", "n": 1}, {"type": "Q4_0", "n": 2}]
    write_run(path, "kernels", {"rounds": 5}, [{"type": "Q4_0", "n": 3}], "type")
    assert json.loads(path.read_text())["results"] == [{"type": "Q4_0", "n": 3}]
