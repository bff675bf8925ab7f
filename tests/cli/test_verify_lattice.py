"""``qxmix verify --source M --lattice L.json``: which whole numbers an output has lost, and how far its weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.quants.api import dequantize
from tests.cli.test_lattice import OUT, UP, Q, in_units, integers, run
from tests.execute.plans import write_model

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "verify.schema.json").read_text())
HEAD = "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\n"
KEEPING = "rules: [{match: attn_q, type: q4_0, search: exhaustive}, {match: attn_v, type: q4_1, search: exhaustive}]\n"
LOSING = "rules: [{match: attn_v, type: q4_1, search: exhaustive}]\n"
V = "blk.0.attn_v.weight"


class Made(NamedTuple):
    model: Path
    lattices: Path
    weights: dict[str, Any]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A model of two lattices of 4 bits, one above a minimum, and a tensor that is none."""
    q, scales = integers(4, 64)
    on = (q * scales).reshape(64, 512).astype(np.float16)
    above = ((q + 8) * scales - 5.4 * scales).reshape(64, 512).astype(np.float16)
    off = np.random.default_rng(3).standard_normal((64, 512)).astype(np.float16)
    weights: dict[str, Any] = {Q: on, UP: on[::-1].copy(), V: above, OUT: off}
    write_model(tmp_path / "m.gguf", weights)
    assert run("inspect", tmp_path / "m.gguf", "--lattice", "-o", tmp_path / "l.json")[0] == 0
    return Made(tmp_path / "m.gguf", tmp_path / "l.json", weights)


def applied(made: Made, rules: str) -> Path:
    recipe, output = made.model.parent / "r.yaml", made.model.parent / "o.gguf"
    recipe.write_text(HEAD + rules)
    assert run("apply", recipe, made.model, "-o", output)[0] == 0
    return output


def verified(made: Made, output: Path) -> tuple[int, dict[str, Any]]:
    code, shown = run("verify", output, "--source", made.model, "--lattice", made.lattices, "--json")
    found = json.loads(shown[shown.index("{") :])
    jsonschema.validate(found, SCHEMA)
    return code, found


def decoded(output: Path, name: str) -> np.ndarray:
    tensor = next(t for t in read_header(output).tensors if t.name == name)
    return dequantize(np.fromfile(output, np.uint8, tensor.nbytes, offset=tensor.offset), tensor.type, 512)


def test_what_is_kept_is_told(made: Made) -> None:
    output = applied(made, KEEPING)
    code, found = verified(made, output)
    assert (code, found["holds"]) == (0, True)
    told = {one["tensor"]: one for one in found["lattices"]}
    assert {name: (one["type"], one["n_lost"]) for name, one in told.items()} == {
        Q: ("Q4_0", 0), UP: ("Q4_0", 0), V: ("Q4_1", 0)
    }  # fmt: skip
    units = in_units(made.weights[Q].astype(np.float32), decoded(output, Q)).max()
    assert told[Q]["farthest_units"] == pytest.approx(units)
    assert told[V]["farthest_units"] is None
    assert told[V]["farthest_steps"] < 0.02
    code, shown = run("verify", output, "--source", made.model, "--lattice", made.lattices)
    assert code == 0
    assert "Every whole number is kept of 3 of 3 tensors on a lattice" in shown


def test_what_is_lost_is_an_error_with_what_keeps_it(made: Made) -> None:
    output = applied(made, LOSING)
    code, found = verified(made, output)
    assert (code, found["holds"]) == (1, False)
    told = {one["tensor"]: one["n_lost"] for one in found["lattices"]}
    q, scales = integers(4, 64)
    # Where a group is constant its value comes back, whatever the step.
    far = np.abs(decoded(output, Q).reshape(q.shape) - made.weights[Q].astype(float).reshape(q.shape)) / scales
    several = np.ptp(q, axis=-1) > 0
    fewest, most = (((far > limit) & several[..., None]).sum() for limit in (0.251, 0.249))
    assert 1000 < fewest <= told[Q] <= most
    assert told[V] == 0
    text = (
        "whole numbers of its lattice of 4 bits per 64 weights are lost in Q4_0; in a recipe, q4_0 with"
        " 'search: exhaustive' keeps every one"
    )
    assert found["problems"] == [{"where": name, "text": text} for name in (Q, UP)]
    code, shown = run("verify", output, "--source", made.model, "--lattice", made.lattices)
    assert code == 1
    assert f"Error: {Q}, {UP}: {text}" in shown
    assert "Every whole number is kept of 1 of 3 tensors on a lattice" in shown
    assert run("verify", output, "--source", made.model)[0] == 0


def test_a_loss_that_was_meant_is_no_problem(made: Made) -> None:
    rules = "rules: [{match: attn_v, type: q4_0, silence: {lattice-lost: meant}}, {match: attn_q, keep: true}]\n"
    output = applied(made, rules.replace("keep: true", "type: q4_0, search: exhaustive"))
    code, found = verified(made, output)
    assert code == 0
    (lost,) = (one for one in found["lattices"] if one["n_lost"])
    assert (lost["tensor"], lost["meant"]) == (V, True)
    assert "as meant" in run("verify", output, "--source", made.model, "--lattice", made.lattices)[1]


@pytest.mark.parametrize("spoil", ["weights", "group"])
def test_lattices_of_other_weights_are_refused(made: Made, spoil: str) -> None:
    output = applied(made, KEEPING)
    if spoil == "weights":  # between the spots that loading looks at
        data = bytearray(made.model.read_bytes())
        data[next(t for t in read_header(made.model).tensors if t.name == UP).offset + 3000] ^= 1
        made.model.write_bytes(data)
    else:
        found = json.loads(made.lattices.read_text())
        next(t for t in found["tensors"] if t["tensor"] == UP)["group"] = 256
        made.lattices.write_text(json.dumps(found))
    code, shown = run("verify", output, "--source", made.model, "--lattice", made.lattices)
    assert code == 1
    assert f"Error: {made.lattices}: was made of other weights than m.gguf has in {UP}" in " ".join(shown.split())


def test_a_tensor_that_the_model_has_not_is_refused(made: Made) -> None:
    found = json.loads(made.lattices.read_text())
    found["tensors"][0]["tensor"] = "blk.9.attn_q.weight"
    made.lattices.write_text(json.dumps(found))
    code, shown = run("plan", "pure/q4_0", made.model, "--lattice", made.lattices)
    assert code == 1
    assert "names blk.9.attn_q.weight, which m.gguf does not have" in " ".join(shown.split())


def test_it_needs_the_model(made: Made) -> None:
    code, shown = run("verify", applied(made, KEEPING), "--lattice", made.lattices)
    assert code == 2
    assert "--source MODEL" in shown
