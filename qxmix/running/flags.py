"""Options of the engines' programs (llama-server, llama-cli and their like) that place a model as was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qxmix.running.device import Device
from qxmix.running.model import Use
from qxmix.running.parts import Stage

_EVERYTHING = 999
"""What people write for all layers; some models have more than 99."""


def flags_of(use: Use, gpus: Sequence[Device], counts: Sequence[int], order: Sequence[Stage]) -> tuple[str, ...]:
    """The options.

    Args:
        use: How the model is run.
        gpus: The GPUs, filled.
        counts: How many layers each has, the output counting as one.
        order: What was to go to the GPUs.

    """
    flags = [f"-c {use.n_ctx}"]
    if use.kv_type.name != "F16":
        name = use.kv_type.name.lower()
        flags += [f"-ctk {name}", f"-ctv {name}"]
    if use.n_parallel > 1:
        flags.append(f"-np {use.n_parallel}")
    if gpus:
        everything = sum(counts) > sum(len(stage.layers) for stage in order)
        flags.append(f"-ngl {_EVERYTHING if everything else sum(counts)}")
        flags += _overrides(gpus, order)
    if len(gpus) > 1:
        flags.append("-ts " + ",".join(map(str, counts)))
    return tuple(flags)


def _overrides(gpus: Sequence[Device], order: Sequence[Stage]) -> Iterator[str]:
    """Experts that are on another device than their layer."""
    experts = [key for stage in order for key in stage.keys if key[1] == "experts"]
    for i, gpu in enumerate(gpus):
        foreign = [layer for layer, part in gpu.keys if part == "experts" and layer not in gpu.cache]
        yield from _override(foreign, f"CUDA{i}")
    on_gpus = {key for gpu in gpus for key in gpu.keys}
    yield from _override([layer for layer, part in experts if (layer, part) not in on_gpus], "CPU")


def _override(layers: Sequence[int | None], device: str) -> Iterator[str]:
    numbers = sorted(layer for layer in layers if layer is not None)
    if numbers:
        yield f'-ot "blk\\.({"|".join(map(str, numbers))})\\.ffn_(up|gate|down|gate_up)_exps={device}"'
