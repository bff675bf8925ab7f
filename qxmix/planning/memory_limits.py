"""Limits on the memory that running the output takes, of every engine that must load it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qxmix.errors import Problem
from qxmix.planning.model import Plan
from qxmix.planning.words import human_size
from qxmix.running.use import use_within

if TYPE_CHECKING:
    from qxmix.running.model import Placed, Running


def runs_of(plan: Plan) -> tuple[Running, ...]:
    """What running the output takes in each engine of the target; empty where the recipe sets no limit on memory."""
    uses = [use for engine in plan.recipe.engines if (use := use_within(plan.recipe.limits, engine))]
    if not uses:
        return ()
    from qxmix.running.place import running  # noqa: PLC0415 - for recipes that limit memory

    nbytes = {t.name: t.nbytes for t in plan.tensors}
    return tuple(running(plan.header, nbytes, use) for use in uses)


def memory_problems(plan: Plan) -> Iterator[Problem]:
    """What is lacking in the engine that lacks most, and that nobody can tell the cache."""
    runs = runs_of(plan)
    if not runs:
        return
    place = plan.recipe.places["limits"]
    if unknown := next((r for r in runs if r.cache.why_unknown), None):
        text = f"the limits on memory are held without the cache, which is not known: {unknown.cache.why_unknown}"
        yield Problem(place.inner(".ctx"), text, "warning", "limit-cache-unknown")
    worst = max(runs, key=lambda r: r.lacking_vram)
    if worst.lacking_vram:
        full = next((d for d in worst.devices if d.missing), worst.devices[0])
        text = f"{_use(worst)} lacks {human_size(worst.lacking_vram)} on GPUs{_in_memory(worst)}; {_holds(full)}"
        yield Problem(place.inner(".max_vram"), text, id="limit-vram")
    worst = max(runs, key=lambda r: r.lacking_ram)
    if worst.lacking_ram:
        text = f"{_use(worst)} lacks {human_size(worst.lacking_ram)} of memory; {_holds(worst.devices[-1])}"
        yield Problem(place.inner(".max_ram"), text, id="limit-ram")


def _use(run: Running) -> str:
    sequences = f", {run.use.n_parallel} sequences" if run.use.n_parallel > 1 else ""
    return (
        f"running it in {run.use.engine} with a context of {run.use.n_ctx:,}, cache {run.use.kv_type.name}{sequences},"
    )


def _in_memory(run: Running) -> str:
    return (
        ""
        if run.use.ram is not None or any(d.missing for d in run.devices)
        else (", where all of it is to be, since no max_ram is given")
    )


def _holds(device: Placed) -> str:
    of = "" if device.room is None else f" of {human_size(device.room)}"
    parts = {
        "weights": sum(device.weights.values()),
        "cache": device.cache,
        "an estimated compute buffer": device.compute,
    }
    listed = ", ".join(f"{human_size(n)} {what}" for what, n in parts.items() if n)
    return f"{device.device} takes {human_size(device.nbytes)}{of}: {listed}"
