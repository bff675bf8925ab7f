"""The engines load what qxmix writes of every type, generate from it, and diverge no more than its bits explain."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from qxmix.engines.evaluate import Settings, evaluate
from qxmix.engines.session import Session
from qxmix.engines.types import runnable_types
from qxmix.errors import PlanError
from tests.engines.written import encodable_types, pure_recipe, write

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.quants import Engine, QuantType

QUICK = {"Q4_0", "Q6_0", "Q6_K"}
"""Types that are tried with the fast tests, too: a plain one, one that only ik_llama.cpp has, one with fallbacks."""
NOT_RUN = {
    "IQ1_BN": "no row of the demo models is long enough for ik_llama.cpp",
    "IQ2_BN": "no row of the demo models is long enough for ik_llama.cpp",
    "BF16_R16": "ik_llama.cpp multiplies it only where it is built for AVX512-BF16",
}


def _marks(quant_type: QuantType) -> list[pytest.MarkDecorator]:
    if quant_type.name in NOT_RUN:
        return [pytest.mark.skip(reason=NOT_RUN[quant_type.name])]
    return [] if quant_type.name in QUICK else [pytest.mark.slow]


TYPES = [pytest.param(t, id=t.name, marks=_marks(t)) for t in encodable_types()]


@cache
def _runnable(engine: Engine) -> list[str]:
    return runnable_types(engine)


def _check(path: Path, base: Path, quant_type: QuantType, text: bytes, floor: float = 0.0) -> None:
    for engine in quant_type.engines:
        if quant_type.name not in _runnable(engine):
            pytest.skip(f"{engine} as it is installed does not know {quant_type.name}")
        with Session(engine, path, n_ctx=64, n_threads=1) as session:
            assert len(session.generate("The world of", 8).tokens) == 8
        settings = Settings(engine, n_ctx=128, n_chunks=2, n_threads=1)
        (scored,) = evaluate([path], text, base=base, settings=settings)
        kld = scored.summary.mean_kld
        assert kld is not None
        # A bit halves the error and quarters the divergence; measured 36 / 4**bpw for Q8_0, half of that for Q4_0.
        assert 0 < kld < 60 / 4**quant_type.bpw + floor


@pytest.mark.parametrize("quant_type", TYPES)
def test_dense_model(
    quant_type: QuantType, demo_model: Path, demo_imatrix: Path, tmp_path: Path, demo_text: bytes
) -> None:
    recipe = pure_recipe(tmp_path, quant_type.name, quant_type.engines[-1])
    output = tmp_path / "out.gguf"
    plan = write(recipe, demo_model, demo_imatrix, output)
    assert {t.type for t in plan.tensors} == {quant_type.name, "Q8_0", "F32"}
    _check(output, demo_model, quant_type, demo_text)


@pytest.mark.slow
@pytest.mark.parametrize("quant_type", TYPES)
def test_experts_with_importance_of_their_own(
    quant_type: QuantType, demo_moe_model: Path, demo_moe_imatrix: Path, tmp_path: Path, demo_text: bytes
) -> None:
    recipe = pure_recipe(tmp_path, quant_type.name, quant_type.engines[-1])
    output = tmp_path / "out.gguf"
    write(recipe, demo_moe_model, demo_moe_imatrix, output)
    # Now and then the smallest error sends a token to other experts.
    _check(output, demo_moe_model, quant_type, demo_text, floor=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("quant_type", TYPES)
def test_without_importance(quant_type: QuantType, demo_model: Path, tmp_path: Path, demo_text: bytes) -> None:
    recipe = pure_recipe(tmp_path, quant_type.name, quant_type.engines[-1])
    output = tmp_path / "out.gguf"
    if quant_type.importance == "required":
        with pytest.raises(PlanError, match="importance"):
            write(recipe, demo_model, None, output)
        return
    write(recipe, demo_model, None, output)
    _check(output, demo_model, quant_type, demo_text)
