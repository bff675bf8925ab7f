"""Measurements survive their file, and what is none is told."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from qxmix.container.header import read_header
from qxmix.container.identity import header_sha256
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import ModelFileError
from qxmix.measurement.file import check_belongs, dumps, load_measurement, save_measurement
from qxmix.measurement.model import (
    JointPoint,
    MeasuredModel,
    MeasuredTensor,
    Measurement,
    Point,
    Run,
    Sensitivity,
    Trial,
)
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from pathlib import Path

TYPES = ("Q2_K", "Q4_0", "Q8_0")
RUN = Run("ik_llama.cpp", "0.1.2", 2, 512, 512, 100, 4, "c" * 64, 1.25e-7)
TENSORS = (
    MeasuredTensor(
        "blk.0.ffn_down.weight",
        (512, 256),
        128,
        (
            Trial("Q2_K", 43008, 0.0321, 0.984),
            Trial("Q4_0", 73728, 0.0045, 0.9977),
            Trial("Q8_0", 139264, 2.5e-5, 0.99999),
        ),
        Sensitivity(0.31, 0.02, "measured"),
    ),
    MeasuredTensor(
        "blk.1.attn_q.weight", (96, 96), 96, (Trial("Q4_0", 5184, 0.005, 0.9975),), Sensitivity(0.004, 0.001, "filled")
    ),
)
MEASUREMENT = Measurement(
    MeasuredModel("tiny", "llama", "a" * 64, 2, 140288),
    "b" * 64,
    "any",
    TYPES,
    "kld",
    TENSORS,
    RUN,
    (
        Point(("blk.0.ffn_down.weight",), "Q4_0", 0.0045, 0.0014, 0.0001),
        Point(("blk.1.attn_q.weight",), "Q4_0", None, -1e-7, 0.0001),
    ),
    (JointPoint("all Q4_0", ("Q4_0", ""), 73728, 0.0021, 0.0002),),
)


def test_a_measurement_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    save_measurement(MEASUREMENT, path)
    assert load_measurement(path) == MEASUREMENT
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_errors_alone_are_a_measurement(tmp_path: Path) -> None:
    bare = tuple(t._replace(sensitivity=None) for t in TENSORS)
    errors = replace(MEASUREMENT, imatrix_sha256=None, tensors=bare, run=None, points=(), joint=())
    save_measurement(errors, tmp_path / "m.json")
    assert load_measurement(tmp_path / "m.json") == errors


def test_the_file_is_as_its_schema_says() -> None:
    schema = json.loads((data_dir("schemas") / "measurement.schema.json").read_text())
    jsonschema.validate(json.loads(dumps(MEASUREMENT)), schema)


def changed(path: tuple[str | int, ...], value: object) -> str:
    raw = json.loads(dumps(MEASUREMENT))
    at: Any = raw
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("types",), ["Q2_K", "Q4_0"], "one figure per type"),
        (("tensors", 0, "error", 1), -0.1, "below zero"),
        (("tensors", 0, "nbytes", 1), 0, "below zero"),
        (("tensors", 0, "nbytes", 1), 1.5, "no count"),
        (("tensors", 0, "error", 1), float("nan"), "no number"),
        (("tensors", 0, "error", 1), "many", "no number"),
        (("tensors", 0, "error", 1), 10**400, "too large"),
        (("tensors", 0, "cosine", 1), float("inf"), "no number"),
        (("tensors", 0, "sensitivity"), [1.0, 0.1], "damaged"),
        (("tensors", 0, "sensitivity"), [1.0, 0.1, "guessed"], "guessed"),
        (("tensors", 1, "shape"), None, "damaged"),
        (("joint", 0, "types"), [0], "one type per tensor"),
        (("joint", 0, "types"), [0, 7], "7"),
        (("points", 0, "loss"), None, "no number"),
        (("metric",), "ppl", "ppl"),
        (("target",), "vllm", "vllm"),
        (("run", "n_ctx"), True, "no count"),
        (("model",), {}, "'name' is missing"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(
    tmp_path: Path, path: tuple[str | int, ...], value: object, told: str
) -> None:
    file = tmp_path / "m.json"
    file.write_text(changed(path, value))
    with pytest.raises(ModelFileError, match=told) as caught:
        load_measurement(file)
    assert "measure again" in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"qxmix_measurement": 2}', "[" * 100_000, "\udcff"])
def test_what_is_no_measurement_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(ModelFileError, match="is no measurement of this version; make one with 'qxmix measure"):
        load_measurement(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        load_measurement(tmp_path / "m.json")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.json").mkdir()
    with pytest.raises(ModelFileError, match="cannot be written"):
        save_measurement(MEASUREMENT, tmp_path / "m.json")
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_another_model_and_matrix_are_told_at_once(tmp_path: Path, demo_model: Path, demo_imatrix: Path) -> None:
    header, imatrix = read_header(demo_model), load_imatrix(demo_imatrix)
    with pytest.raises(ModelFileError) as caught:
        check_belongs(MEASUREMENT, tmp_path / "m.json", header, None)
    model, matrix = caught.value.problems
    assert "another model (tiny, 2 tensors)" in model.text
    assert f"importance matrix {'b' * 12} and not with none" in matrix.text
    own = replace(
        MEASUREMENT,
        model=MEASUREMENT.model._replace(header_sha256=header_sha256(header)),
        imatrix_sha256=imatrix.sha256,
    )
    check_belongs(own, tmp_path / "m.json", header, imatrix)


def test_a_large_measurement_loads_fast(tmp_path: Path) -> None:
    types = tuple(f"T{i}" for i in range(20))
    trials = tuple(Trial(name, 123456789, 0.00123456, 0.998765) for name in types)
    sensitivity = Sensitivity(0.123456, 0.0123456, "measured")
    tensors = tuple(
        MeasuredTensor(f"blk.{i}.ffn_down_exps.weight", (7168, 2048, 256), 4096, trials, sensitivity)
        for i in range(1086)
    )
    path = tmp_path / "m.json"
    save_measurement(replace(MEASUREMENT, types=types, tensors=tensors, joint=()), path)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        load_measurement(path)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.25  # 0.06 s where it was written; slower machines have slack
