"""Inputs that an engine rounds: what the sums say, and that prediction and solver count them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.engines.rounding import Rounder, rounded
from qxmix.quants import ENGINES, QUANT_TYPES
from qxmix.quants.inputs import INPUT_BLOCKS, input_block
from qxmix.solve.predict import predictor_of
from tests.planning.models import header
from tests.planning.zoo import dense
from tests.solve.measured import TYPES, measurement_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants import Engine


def test_rounding_is_that_of_q8_0() -> None:
    rows = np.array([[127.0, 1.4, -2.6] + [0.0] * 30], np.float32)  # a block of 32, and one that is cut short
    back = rounded(rows, 32)
    assert back[0, :3].tolist() == [127.0, 1.0, -3.0]
    assert back.shape == rows.shape
    assert not back[0, 3:].any()


def test_one_large_value_coarsens_its_whole_block() -> None:
    rows = np.random.default_rng(1).standard_normal((8, 512)).astype(np.float32)
    rows[:, ::256] = 60
    fine, coarse = (np.square(rounded(rows, block) - rows).sum() for block in INPUT_BLOCKS)
    assert coarse == pytest.approx(8 * fine, rel=0.2)


def test_sums_over_products_add_up() -> None:
    rows = np.random.default_rng(2).standard_normal((6, 64)).astype(np.float32)
    whole, parts = Rounder(["a"]), Rounder(["a"])
    whole.take("a", rows, None)
    for some in (rows[:2], rows[2:]):
        parts.take("a", some, None)
    assert parts.wants("a")
    assert not parts.wants("b")

    def sums(of: Rounder) -> NDArray[np.float64]:
        head, payload = of.result()
        assert json.loads(str(head["names"])) == [["a", 64]]
        return np.frombuffer(payload).reshape(3, 64)

    np.testing.assert_allclose(sums(parts), sums(whole))
    np.testing.assert_allclose(sums(whole)[0], np.square(rows, dtype=np.float64).sum(axis=0))


@pytest.mark.parametrize(
    ("name", "llama", "ik"),
    [
        ("Q4_0", 32, 32),
        ("Q6_K", 256, 32),
        ("Q4_K_R4", 256, 32),
        ("IQ4_K", 256, 256),
        ("Q3_K", 256, 256),
        ("F16", None, None),
    ],
)
def test_blocks_of_types(name: str, llama: int | None, ik: int | None) -> None:
    assert [input_block(name, engine) for engine in ENGINES] == [llama, ik]


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_are_those_of_the_engines_products(engine: Engine) -> None:
    names = ["Q4_0", "IQ4_NL", "Q3_K", "Q4_K", "Q6_K", *(["IQ4_K"] if engine == "ik_llama.cpp" else [])]
    command = [sys.executable, "-m", "tests.engines.multiply", engine, *names]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[2])
    for name, ratio in json.loads(done.stdout).items():
        block = input_block(name, engine)
        assert block is not None
        assert ratio == pytest.approx(block / 32, rel=0.1), name


def test_every_type_has_an_answer() -> None:
    found = {input_block(t.name, engine) for t in QUANT_TYPES if t.writable for engine in ENGINES}
    assert found == {None, *INPUT_BLOCKS}


def test_the_predicted_loss_has_the_inputs_in_it() -> None:
    shape = dense("llama", 6, 512, 1024, 8, 2, head=64, n_vocab=2048)
    model, plain = header(shape), measurement_of(shape)
    seen = replace(plain, tensors=tuple(t._replace(input_errors=(1e-4, 8e-4)) for t in plain.tensors))
    name = plain.tensors[1].name
    before, after = predictor_of(model, plain), predictor_of(model, seen)
    assert after.engines == ENGINES
    for kind in TYPES:
        blocks = [input_block(kind, engine) for engine in ENGINES]
        more = max((1e-4, 8e-4)[INPUT_BLOCKS.index(block)] for block in blocks if block)
        weights = before.loss(name, kind)
        assert weights is not None
        assert after.loss(name, kind) == pytest.approx(weights + after.sensitivities[name] * more)
        assert after.weight_loss(name, kind) == weights
    assert after.calibration == before.calibration  # whole recipes are swapped in, too
