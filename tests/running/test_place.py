"""Where weights and cache go, and the flags that make it so.  No GPU is at hand: what is held is that sums come out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from qxmix import load_recipe, make_plan
from qxmix.quants import get
from qxmix.resources import data_dir
from qxmix.running.model import Use
from qxmix.running.parts import part_of
from qxmix.running.place import running
from tests.planning.models import header
from tests.planning.zoo import dense, experts

if TYPE_CHECKING:
    from qxmix.plan import Plan
    from qxmix.quants import Engine
    from qxmix.running.model import Running
    from tests.planning.models import Model

ROOT = Path(__file__).parents[2]
MOE = experts("qwen3moe", 12, 512, 96, 8, 8, 2, lead=1, shared=True)
DENSE = dense("llama", 10, 256, 512, 4, 2)


TIED = dense("llama", 10, 256, 512, 4, 2, tied=True)


def run(plan: Plan, engine: Engine = "llama.cpp", vram: tuple[int, ...] = (), ram: int | None = None) -> Running:
    return running(
        plan.header, {t.name: t.nbytes for t in plan.tensors}, Use(engine, 512, get("F16"), 1, 512, vram, ram)
    )


@pytest.mark.parametrize("model", [MOE, DENSE], ids=["experts", "dense"])
@pytest.mark.parametrize("engine", ["llama.cpp", "ik_llama.cpp"])
@pytest.mark.parametrize("mib", [(1,), (2,), (3, 1), (4,), (400,), (1000, 500, 700)])
def test_devices_sum_to_the_whole(model: Model, engine: Engine, mib: tuple[int, ...]) -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(model), None)
    found, whole = run(plan, engine, tuple(n << 20 for n in mib), 1 << 30), run(plan, engine)
    for some in (found, whole):
        assert sum(sum(d.weights.values()) for d in some.devices) == plan.data_nbytes
        assert sum(d.cache for d in some.devices) == some.cache.nbytes > 0
    assert len(whole.devices) == 1


def test_experts_of_the_first_layers_go_to_the_gpu_as_far_as_there_is_room() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(MOE), None)
    need = run(plan).devices[0]
    per_layer = need.weights["experts"] // 11
    fixed = need.nbytes - need.weights["experts"] - need.weights["embeddings"]
    found = run(plan, vram=(fixed + 4 * per_layer + 100,))
    assert "-ngl 999" in found.flags
    override = next(f for f in found.flags if f.startswith("-ot"))
    assert re.findall(r"\d+", override) == ["5", "6", "7", "8", "9", "10", "11"]
    pattern = re.compile(override.split('"')[1].removesuffix("=CPU"))
    names = [t.name for t in plan.tensors]
    assert sum(bool(pattern.search(n)) for n in names) == 21
    # What the flag moves is what is counted so: the router stays.
    assert {n for n in names if part_of(n) == "experts"} >= {n for n in names if pattern.search(n)}
    assert not any(part_of(n) == "experts" for n in names if "_inp" in n)
    assert found.devices[0].missing == 0


def test_experts_of_a_full_gpu_go_to_another() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(MOE), None)
    need = run(plan).devices[0]
    per_layer = need.weights["experts"] // 11
    half = (need.nbytes - need.weights["experts"] - need.weights["embeddings"]) * 2 // 3
    found = run(plan, vram=(half + 2 * per_layer, half + 7 * per_layer))
    assert not any(d.missing for d in found.devices)
    assert found.devices[0].weights["experts"] >= 2 * per_layer
    moved = next(f for f in found.flags if "=CUDA1" in f)
    split = next(f for f in found.flags if f.startswith("-ts"))
    on_first, on_second = (int(n) for n in split.removeprefix("-ts ").split(","))
    assert on_first + on_second == 13
    assert all(int(n) < on_first for n in re.findall(r"\d+", moved.split("=")[0]))


@pytest.mark.parametrize(("engine", "n_layers"), [("llama.cpp", 9), ("ik_llama.cpp", 10)])
def test_layers_are_counted_as_the_engine_counts_them(engine: Engine, n_layers: int) -> None:
    """llama.cpp takes the output before any layer, ik_llama.cpp after all of them."""
    plan = make_plan(load_recipe("pure/q8_0"), header(DENSE), None)
    everything = run(plan, engine, (1 << 30,)).devices[0].nbytes
    found = run(plan, engine, (everything - 1000,))
    assert "-ngl 10" in found.flags
    assert ("output" in found.devices[0].weights) == (engine == "llama.cpp")
    per_layer = sum(t.nbytes for t in plan.tensors if t.name.startswith("blk.0."))
    on_gpu = sum(n for part, n in found.devices[0].weights.items() if part != "output")
    assert on_gpu == n_layers * per_layer


def test_several_gpus_have_whole_layers() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(DENSE), None)
    each = run(plan, vram=(1 << 30,)).devices[0].nbytes
    found = run(plan, vram=(each * 3 // 4, each * 3 // 4))
    split = next(f for f in found.flags if f.startswith("-ts"))
    counts = [int(n) for n in split.removeprefix("-ts ").split(",")]
    per_layer = sum(t.nbytes for t in plan.tensors if t.name.startswith("blk.0."))
    assert sum(counts) == 11
    assert sum(n for part, n in found.devices[0].weights.items() if part != "output") == counts[0] * per_layer
    assert not any(d.missing for d in found.devices)


def test_embeddings_that_are_the_output_are_on_the_gpu_too() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(TIED), None)
    found = run(plan, vram=(1 << 30,))
    table = next(t.nbytes for t in plan.tensors if t.name == "token_embd.weight")
    norm = next(t.nbytes for t in plan.tensors if t.name == "output_norm.weight")
    assert found.devices[0].weights["output"] == table + norm
    assert found.devices[1].weights == {"embeddings": table}


def test_whole_layers_of_a_dense_model_go_last_first() -> None:
    plan = make_plan(load_recipe("pure/q8_0"), header(DENSE), None)
    all_of_it = run(plan, vram=(1 << 30,))
    assert "-ngl 999" in all_of_it.flags
    assert all_of_it.fits
    assert all_of_it.devices[1].weights.keys() == {"embeddings"}
    room = all_of_it.devices[0].nbytes * 2 // 3
    some = run(plan, vram=(room,))
    n = int(next(f for f in some.flags if f.startswith("-ngl")).split()[1])
    assert 1 < n < 11
    assert 0 < some.devices[0].cache < some.cache.nbytes
    # Without a word about memory all of it is to be on the GPU.
    assert some.lacking_vram == some.devices[1].nbytes - some.devices[1].weights["embeddings"] > 0
    assert run(plan, vram=(room,), ram=1 << 30).fits
    assert not run(plan, vram=(room,), ram=1 << 20).fits
    none = run(plan, vram=(1 << 10,))
    assert "-ngl 0" in none.flags


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("token_embd.weight", "embeddings"), ("output.weight", "output"), ("output_norm.weight", "output"),
        ("blk.3.ffn_up_exps.weight", "experts"), ("blk.3.ffn_up_shexp.weight", "shared experts"),
        ("blk.3.ffn_up.weight", "feed-forward"),
        ("blk.3.ffn_gate_inp.weight", "feed-forward"), ("blk.3.ffn_gate_up_exps.weight", "experts"),
        ("blk.3.attn_q_a.weight", "attention"), ("rope_freqs.weight", "other"),
    ],
)  # fmt: skip
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qxmix", "plan", "pure/q8_0", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command(demo_model: Path) -> None:
    done = command(demo_model, "--ctx", 4096, "--kv-type", "q8_0", "--vram", "1MiB,2MiB", "--ram", "1GiB")
    assert done.returncode == 0, done.stderr
    assert "To run in llama.cpp with a context of 4,096, cache Q8_0" in done.stdout
    assert "Flags: -c 4096 -ctk q8_0 -ctv q8_0 -ngl" in done.stdout
    whole = json.loads(command(demo_model, "--ctx", 1000, "--json").stdout)
    jsonschema.validate(whole, json.loads((data_dir("schemas") / "plan.schema.json").read_text()))
    found = whole["running"]
    assert found["cache_nbytes"] == 2 << 20
    assert found["devices"][0]["device"] == "CPU"


def test_usage(demo_model: Path) -> None:
    assert "give --ctx, how long a text, too" in command(demo_model, "--vram", "8GiB").stderr.replace("\n", " ")
    told = command(demo_model, "--ctx", 512, "--kv-type", "q4_k").stderr.replace("\n", " ")
    assert "is no type of a cache; there are f32, f16, bf16, q8_0" in " ".join(told.split())
