"""``qxmix deviation``: the figures of ``apply --report`` for a pair of files that are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from qxmix.execute.deviation import Deviation, Moved
from qxmix.report.deviation import deviations_text

SCHEMAS = Path(__file__).parents[2] / "schemas"


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def validate(value: object, name: str) -> None:
    resources = [(p.name, Resource.from_contents(json.loads(p.read_text()))) for p in SCHEMAS.glob("*.json")]
    registry: Any = Registry().with_resources(resources)
    jsonschema.Draft202012Validator({"$ref": name}, registry=registry).validate(value)


@pytest.fixture(scope="module")
def pair(demo_moe_model: Path, demo_moe_imatrix: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An output and what the apply that wrote it reported."""
    folder = tmp_path_factory.mktemp("pair")
    recipe, out = folder / "r.yaml", folder / "o.gguf"
    recipe.write_text(
        "qxmix: 1\ntarget: ik_llama.cpp\ndefault: q4_0\nfallback: [q8_0]\nrules:\n"
        "  - {category: [token_embd, output], type: q8_0}\n  - {match: attn_k, type: q8_0_r8}\n"
    )
    arguments = (recipe, demo_moe_model, "--imatrix", demo_moe_imatrix, "-o", out, "--report", "--json")
    return out, json.loads(run("apply", *arguments).stdout)


def test_figures_are_those_of_the_report(pair: tuple[Path, Any], demo_moe_model: Path, demo_moe_imatrix: Path) -> None:
    out, report = pair
    done = run("deviation", out, demo_moe_model, "--imatrix", demo_moe_imatrix, "--json")
    found = json.loads(done.stdout)
    validate(found, "deviation.schema.json")
    told = {t["name"]: t for t in found["tensors"]}
    reported = {t["name"]: t for t in report["tensors"] if "deviation" in t}
    assert told.keys() == reported.keys()
    for name, tensor in reported.items():
        theirs, ours = tensor["deviation"], told[name]["deviation"]
        assert (ours["relative_error"], ours["cosine"]) == (theirs["relative_error"], theirs["cosine"])
        assert ours["worst_rows"] == theirs["worst_rows"]
        if told[name]["type"] == "Q4_0":  # an encoder that reads the importance
            assert ours["weighted_rmse"] == theirs["weighted_rmse"]


def test_sums_are_over_all_weights(pair: tuple[Path, Any], demo_moe_model: Path) -> None:
    found = json.loads(run("deviation", pair[0], demo_moe_model, "--json").stdout)
    n_tensors = {row["type"]: row["n_tensors"] for row in found["types"]}
    assert sum(n_tensors.values()) == sum(row["n_tensors"] for row in found["categories"]) == len(found["tensors"])
    assert set(n_tensors) == {"Q4_0", "Q8_0", "Q8_0_R8"}
    for row in found["types"]:
        every = [t["deviation"]["relative_error"] for t in found["tensors"] if t["type"] == row["type"]]
        assert min(every) <= row["relative_error"] <= max(every)
    errors = [row["relative_error"] for row in found["types"]]
    assert errors == sorted(errors, reverse=True)


def test_tables(pair: tuple[Path, Any], demo_moe_model: Path) -> None:
    text = run("deviation", pair[0], demo_moe_model).stdout
    tensors, categories, types = text.strip().split("\n\n")
    assert "blk.0.attn_k.weight" in tensors
    assert {line.split()[0] for line in types.split("\n")} == {"type", "Q4_0", "Q8_0", "Q8_0_R8"}
    assert categories.startswith("category")
    assert "\n... and" not in text
    sums = [Deviation((1.0, 1.0, float(i), 1000.0, 1000.0, 1000.0), ()) for i in range(30)]
    moved = [Moved(f"blk.{i}.attn_k.weight", "F16", "Q4_0", d) for i, d in enumerate(sums)]
    short, whole = deviations_text(moved), deviations_text(moved, every=True)
    assert short.partition("\n\n")[0].endswith("\n... and 10 tensors with less; --json has all")
    assert ("blk.10." in short, "blk.9." in short, "blk.9." in whole) == (True, False, True)
    assert "same types" in run("deviation", demo_moe_model, demo_moe_model).stdout


def test_another_model_is_an_error(
    pair: tuple[Path, Any], demo_model: Path, demo_moe_model: Path, tmp_path: Path
) -> None:
    message = run("deviation", pair[0], demo_model, code=1).stderr
    assert re.search(
        r"has no such tensor, and \d+ more tensors do not fit; is .* made from another model\?\n$", message
    )
    assert message.count("Error: ") == 1
    header = tmp_path / "h.gguf"
    run("header", demo_moe_model, "-o", header)
    assert "header" in run("deviation", pair[0], header, code=1).stderr
    error = json.loads(run("deviation", pair[0], demo_model, "--json", code=1).stdout)
    assert error["error"][0]["text"]
