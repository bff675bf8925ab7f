"""The stock mixes decide as the engines do, tensor by tensor.

``decisions.json`` has, for each engine, model and mix, digests of what ``llama-quantize --dry-run`` printed for the
models of ``zoo.py``, without and with an importance matrix; null where it refused to go without.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qxmix.plan import make_plan
from qxmix.recipe import load_recipe, shipped_names
from tests.planning.models import header, imatrix, write, write_imatrix
from tests.planning.zoo import MODELS, MORE

if TYPE_CHECKING:
    from qxmix.plan import Plan

DECISIONS: dict[str, dict[str, dict[str, list[str | None]]]] = json.loads(
    (Path(__file__).parent / "decisions.json").read_text()
)
QUICK = {"smollm-576", "deepseek-v2-lite-like", "falcon-40b"}
CASES: list[Any] = [
    pytest.param(engine, model, marks=[] if model in QUICK else [pytest.mark.slow])
    for engine, models in DECISIONS.items()
    for model in models
]


def digest(plan: Plan) -> str:
    return hashlib.sha256("\n".join(f"{t.name} {t.type}" for t in plan.tensors).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("engine", "model"), CASES)
def test_every_mix_decides_as_the_engine_does(engine: str, model: str) -> None:
    known = {**MODELS, **MORE}[model]
    head, importance = header(known), imatrix(known)
    wrong = []
    for mix, wanted in DECISIONS[engine][model].items():
        recipe = load_recipe(f"{engine}/{mix}")
        for given, expected in zip((None, importance), wanted, strict=True):
            plan = make_plan(recipe, head, given)
            errors = {p.id for p in plan.problems if p.severity == "error"}
            assert errors <= {"imatrix-missing"}, mix
            if expected is None:
                # The engine refuses the mix by its name, also where no tensor can have a type that needs importance.
                assert errors or model in {"falcon-40b", "gemma2-tied"}, mix
            elif digest(plan) != expected:
                wrong.append((mix, given is not None))
    assert not wrong


UNHEARD = {"mxfp4_moe", "nvfp4", "q1_0", "q2_0", "tq1_0", "tq2_0"}
"""Mixes of llama.cpp for special models, written after its source; nobody printed their decisions."""


def test_every_mix_of_both_engines_is_there_and_held_to_its_engine() -> None:
    for engine, least, unheard in (("llama.cpp", 27, UNHEARD), ("ik_llama.cpp", 58, set())):
        known = {mix for mixes in DECISIONS[engine].values() for mix in mixes}
        assert len(known) >= least
        shipped = {n.partition("/")[2] for n in shipped_names() if n.startswith(f"{engine}/")}
        assert shipped == known | unheard


def test_experts_in_4_bit_floats() -> None:
    plan = make_plan(load_recipe("llama.cpp/mxfp4_moe"), header(MODELS["mixtral-8x7b"]))
    assert {t.type for t in plan.tensors if "_exps" in t.name} == {"MXFP4"}
    assert {t.type for t in plan.tensors if "_exps" not in t.name and t.action == "encode"} == {"Q8_0"}


@cache
def llama_quantize() -> Path | None:
    """The program inside ik_llama.cpp's wheel."""
    spec = importlib.util.find_spec("ik_llama_cpp")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "llama-quantize"
    return path if path.exists() else None


_TENSOR = re.compile(r"\[ *\d+/ *\d+\] +(\S+) - \[.*?\], type = *(\w+)")


def dry_run(model: Path, matrix: Path | None, mix: str) -> dict[str, str]:
    program = llama_quantize()
    assert program is not None
    options = ["--imatrix", str(matrix)] if matrix else []
    command = [str(program), "--dry-run", *options, str(model), str(model.with_suffix(".out")), mix.upper(), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return printed_types(done.stdout + done.stderr) if done.returncode == 0 else {}


def printed_types(text: str) -> dict[str, str]:
    """Types by tensor in what ``llama-quantize`` prints."""
    found = {}
    for part in re.split(r"^(?=\[ *\d+/ *\d+\] )", text, flags=re.MULTILINE)[1:]:
        named = _TENSOR.match(part)
        assert named is not None
        # A fallback is announced between the tensor and what it is converted to.
        converted = re.findall(r"converting to (\w+)", part)
        found[named[1]] = (converted[-1] if converted else named[2]).upper()
    return found


@pytest.mark.slow
@pytest.mark.skipif(llama_quantize() is None, reason="ik_llama.cpp's wheel is not installed")
@pytest.mark.parametrize("model", ["qwen3-next", "granite-moe-2", "gemma2-tied", "mamba"])
@pytest.mark.parametrize("with_imatrix", [False, True], ids=["plain", "imatrix"])
def test_the_engine_itself_says_the_same(tmp_path: Path, model: str, *, with_imatrix: bool) -> None:
    known = MORE[model]
    path = write(known, tmp_path / "model.gguf")
    matrix = write_imatrix(known, tmp_path / "model.dat") if with_imatrix else None
    for mix in ("q4_k_m", "q2_k", "iq3_xxs", "iq4_ks", "q4_0", "iq4_k_r4", "iq3_kl", "q5_k_s", "iq2_m"):
        wanted = dry_run(path, matrix, mix)
        plan = make_plan(load_recipe(f"ik_llama.cpp/{mix}"), header(known), imatrix(known) if matrix else None)
        if wanted:
            assert {t.name: t.type for t in plan.tensors} == wanted, mix
        else:
            assert "imatrix-missing" in {p.id for p in plan.problems if p.severity == "error"}, mix
