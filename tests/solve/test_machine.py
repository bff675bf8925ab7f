"""Recipes for a machine: what is written keeps to both budgets, and fills them."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.container.header import read_header
from qxmix.errors import PlanError
from qxmix.plan import Split, make_plan
from qxmix.planning.memory_limits import runs_of
from qxmix.quants import get
from qxmix.recipe import load_recipe
from qxmix.recipe.sizes import size_text
from qxmix.running.cache import cache_of
from qxmix.running.compute import compute_estimate
from qxmix.running.model import Use
from qxmix.solve.base import unruled
from qxmix.solve.machine import solve_for_machine
from qxmix.solve.make import solve_recipe
from qxmix.solve.predict import predictor_of
from qxmix.solve.request import Budget, Limits, Names, Request, Share
from tests.planning.models import header
from tests.planning.zoo import dense, experts

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.recipe.model import Target
    from qxmix.solve.make import Solved
    from tests.planning.models import Model

MOE = experts("qwen3moe", 12, 512, 256, 8, 8, 2, lead=1, shared=True)
DENSE = dense("llama", 10, 512, 1024, 8, 2, n_vocab=3000)
TIED = dense("llama", 10, 512, 1024, 8, 2, n_vocab=3000, tied=True)
TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
FILLED = 0.85
"""Whole layers, and tensors of one type each, leave some room in models as small as these."""


def request(model: Model, target: Target, vram: tuple[int, ...], ram: int | None) -> Request:
    base = unruled(target)
    use = Use(base.engines[0], 512, get("Q8_0"), vram=vram, ram=ram)
    return Request(header(model), None, base, Budget(), TYPES, Limits(), Split(), "m", use)


def solved(model: Model, target: Target, vram: tuple[int, ...], ram: int | None) -> Solved:
    asked = request(model, target, vram, ram)
    return solve_for_machine(asked, predictor_of(asked.header, None, asked.base.engines), ())


def rooms(model: Model, vram: tuple[float, ...], ram: float | None) -> tuple[tuple[int, ...], int | None]:
    """Room for so many times the model at Q4_K on each device, besides cache and buffers."""
    head, use = header(model), Use("llama.cpp", 512, get("Q8_0"))
    nbytes = sum(t.n_weights for t in head.tensors) * 9 // 16
    compute = compute_estimate(head, use)
    over = cache_of(head, use).nbytes + compute.each + compute.logits
    return tuple(over + int(f * nbytes) for f in vram), None if ram is None else over + int(ram * nbytes)


@pytest.mark.parametrize("target", ["llama.cpp", "ik_llama.cpp", "any"])
@pytest.mark.parametrize(
    ("model", "vram", "ram"),
    [
        (MOE, (0.5,), 0.5), (MOE, (0.4, 0.3), 0.4), (MOE, (1.1,), None), (MOE, (), 1.2),
        (DENSE, (0.5,), 0.5), (DENSE, (0.5, 0.3), 0.4), (TIED, (0.8,), 0.4), (DENSE, (1.1,), None),
    ],
)  # fmt: skip
def test_both_budgets_are_kept_and_filled(
    model: Model, target: Target, vram: tuple[float, ...], ram: float | None
) -> None:
    room = rooms(model, vram, ram)
    found = solved(model, target, *room)
    assert not any(p.severity == "error" for p in found.plan.problems)
    runs = runs_of(found.plan)
    assert runs
    assert all(run.fits for run in runs)
    largest = sum(t.n_weights for t in found.plan.header.tensors) * 34 // 32
    over = rooms(model, (0.0,) * len(vram), None if ram is None else 0.0)
    given = sum(room[0]) + (room[1] or 0) - sum(over[0]) - (over[1] or 0)
    assert found.plan.data_nbytes > FILLED * min(given, largest)


def test_no_other_cut_loses_less() -> None:
    """Solved for every number of expert layers on the GPU: none is better than the one that was chosen."""
    vram, ram = rooms(MOE, (0.5,), 0.5)
    assert ram is not None
    found, asked = solved(MOE, "llama.cpp", vram, ram), request(MOE, "llama.cpp", vram, ram)
    (run,) = runs_of(found.plan)
    predictor = predictor_of(asked.header, None, asked.base.engines)
    losses = []
    for k in range(12):
        on_gpu = frozenset(
            t.name for t in asked.header.tensors
            if t.name != "token_embd.weight" and ("_exps" not in t.name or int(t.name.split(".")[1]) <= k)
        )  # fmt: skip
        left = vram[0] - run.devices[0].cache - run.devices[0].compute, ram - run.devices[1].compute
        shares = Share(Names("GPUs", on_gpu), left[0]), Share(None, left[1])
        with suppress(PlanError):
            losses.append(solve_recipe(replace(asked, use=None, budget=Budget(shares=shares)), predictor, ()).loss)
    assert len(losses) > 2
    assert found.loss <= 1.02 * min(losses)


def test_a_machine_that_is_too_small_is_told() -> None:
    with pytest.raises(PlanError, match="not even the smallest types fit into --vram and --ram"):
        solved(MOE, "any", *rooms(MOE, (0.2,), 0.2))
    with pytest.raises(PlanError, match="the cache and the buffers alone are more"):
        solved(MOE, "any", (), 1000)


def test_sizes_are_written_exactly() -> None:
    texts = [size_text(n) for n in (24 << 30, 24 * 10**9, 1 << 20, 12345, 0)]
    assert texts == ["24GiB", "24GB", "1MiB", "12345", "0"]


def test_the_command_and_the_plan_of_its_recipe(demo_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "best.yaml"

    def run(line: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, shlex.split(line))
        return done.exit_code, " ".join(done.output.split())

    machine = "--ctx 1024 --kv-type q8_0 --vram 16MiB --ram 16MiB"
    code, said = run(f"solve {demo_model} --types Q4_0,Q5_0,Q8_0 {machine} -o {recipe}")
    assert code == 0, said
    assert "limits: {max_vram: [16MiB], max_ram: 16MiB, ctx: 1024, kv_type: q8_0}" in recipe.read_text()
    code, said = run(f"plan {recipe} {demo_model} {machine}")
    assert (code, "Flags: -c 1024 -ctk q8_0 -ctv q8_0 -ngl" in said) == (0, True)
    recipe.write_text(recipe.read_text().replace("max_ram: 16MiB", "max_ram: 10KiB"))
    assert run(f"plan {recipe} {demo_model}")[0] == 3
    assert run(f"solve {demo_model} {machine} --size 1.3MB -o {tmp_path / 'small.yaml'}")[0] == 0
    small = make_plan(load_recipe(tmp_path / "small.yaml"), read_header(demo_model))
    assert small.file_nbytes <= 1_300_000, "of the size and the machine the smaller one binds"
    assert "leave out either" in run(f"solve {demo_model} {machine} --budget rest=1MiB")[1]
    assert (
        "recipes at random"
        in run(f"solve {demo_model} {machine} --size 1.3MB --against random:2 -o {recipe} --overwrite")[1]
    )
    assert "leave out --vram and --ram, or --curve" in run(f"solve {demo_model} {machine} --curve")[1]
    assert "give its --vram, --ram or both" in run(f"solve {demo_model} --size 1MiB --ctx 512")[1]
