"""Where weights and cache go, and the flags that make it so.  No GPU is at hand: what is held is that sums come out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from qxmix import load_recipe, make_plan
from qxmix.quants import get
from qxmix.resources import data_dir
from qxmix.running.model import Use
from qxmix.running.place import part_of, running
from tests.planning.models import header
from tests.planning.zoo import dense, experts

ROOT = Path(__file__).parents[2]
MOE = experts("qwen3moe", 12, 512, 96, 8, 8, 2, lead=1, shared=True)
DENSE = dense("llama", 10, 256, 512, 4, 2)


@pytest.mark.parametrize("model", [MOE, DENSE], ids=["experts", "dense"])
@pytest.mark.parametrize("mib", [(1,), (2,), (3, 1), (4,), (400,), (1000, 500, 700)])
def test_devices_sum_to_the_whole(model: object, mib: tuple[int, ...]) -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(model), None)  # type: ignore[arg-type]
    vram = tuple(n << 20 for n in mib)
    found = running(plan, Use("llama.cpp", 512, get("F16"), vram=vram, ram=1 << 30))
    assert sum(sum(d.weights.values()) for d in found.devices) == plan.data_nbytes
    assert sum(d.cache for d in found.devices) == found.cache.nbytes > 0
    whole = running(plan, Use("llama.cpp", 512, get("F16")))
    assert found.nbytes == pytest.approx(whole.nbytes, abs=len(mib))
    assert sum(d.cache + sum(d.weights.values()) for d in whole.devices) == plan.data_nbytes + found.cache.nbytes


def test_experts_of_the_first_layers_go_to_the_gpu_as_far_as_there_is_room() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(MOE), None)
    need = running(plan, Use("llama.cpp", 512, get("F16"))).devices[0]
    per_layer = need.weights["experts"] // 11
    fixed = need.nbytes - need.weights["experts"] - need.weights["embeddings"]
    found = running(plan, Use("llama.cpp", 512, get("F16"), vram=(fixed + 4 * per_layer + 100,)))
    assert "-ngl 99" in found.flags
    override = next(f for f in found.flags if f.startswith("-ot"))
    assert re.findall(r"\d+", override) == ["5", "6", "7", "8", "9", "10", "11"]
    pattern = re.compile(override.split('"')[1].removesuffix("=CPU"))
    names = [t.name for t in plan.tensors]
    assert sum(bool(pattern.search(n)) for n in names) == 21
    assert found.devices[0].missing == 0


def test_whole_layers_of_a_dense_model_go_last_first() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(DENSE), None)
    all_of_it = running(plan, Use("llama.cpp", 512, get("F16"), vram=(1 << 30,)))
    assert "-ngl 99" in all_of_it.flags
    assert all_of_it.devices[1].weights.keys() == {"embeddings"}
    room = all_of_it.devices[0].nbytes * 2 // 3
    some = running(plan, Use("llama.cpp", 512, get("F16"), vram=(room,)))
    n = int(next(f for f in some.flags if f.startswith("-ngl")).split()[1])
    assert 1 < n < 11
    assert 0 < some.devices[0].cache < some.cache.nbytes
    none = running(plan, Use("llama.cpp", 512, get("F16"), vram=(1 << 10,)))
    assert "-ngl 0" in none.flags


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("token_embd.weight", "embeddings"), ("output.weight", "output"), ("output_norm.weight", "output"),
        ("blk.3.ffn_up_exps.weight", "experts"), ("blk.3.ffn_up_shexp.weight", "shared experts"),
        ("blk.3.ffn_up.weight", "feed-forward"), ("blk.3.attn_q_a.weight", "attention"), ("rope_freqs.weight", "other"),
    ],
)  # fmt: skip
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part


def plan(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qxmix", "plan", "pure/q8_0", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command(demo_model: Path) -> None:
    done = plan(demo_model, "--ctx", 4096, "--kv-type", "q8_0", "--vram", "1MiB,2MiB", "--ram", "1GiB")
    assert done.returncode == 0, done.stderr
    assert "To run in llama.cpp with a context of 4,096, cache Q8_0" in done.stdout
    assert "Flags: -c 4096 -ctk q8_0 -ctv q8_0 -ngl" in done.stdout
    whole = json.loads(plan(demo_model, "--ctx", 1000, "--json").stdout)
    jsonschema.validate(whole, json.loads((data_dir("schemas") / "plan.schema.json").read_text()))
    found = whole["running"]
    assert found["cache_nbytes"] == 2 << 20
    assert found["devices"][0]["device"] == "CPU"


def test_usage(demo_model: Path) -> None:
    assert "give --ctx, how long a text, too" in plan(demo_model, "--vram", "8GiB").stderr.replace("\n", " ")
    told = plan(demo_model, "--ctx", 512, "--kv-type", "q4_k").stderr.replace("\n", " ")
    assert "is no type of a cache; there are f32, f16, bf16, q8_0" in " ".join(told.split())
