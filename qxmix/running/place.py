"""Where weights and cache go: on the GPUs what every token needs, then as many layers of experts as fit.

Attention, shared experts, dense layers, the output and the cache are read for each token; an expert only now and then.
So with experts all but those goes to the GPUs (``-ngl 999``), and the experts of the first layers, as far as there is
room; ``-ot`` keeps the others in memory.  Without experts whole layers go, the last ones first, as ``-ngl N`` does.
The embeddings are looked up, not multiplied, and both engines keep them in memory.

Several GPUs have whole layers, one after the other, as many as ``-ts`` says (``load_tensors`` in llama.cpp,
``llm_load_tensors`` in ik_llama.cpp: layer ``i`` of ``n`` goes to the first device whose part of the sum exceeds
``i/n``).  llama.cpp counts the output as the last of the layers; ik_llama.cpp takes it only when it has all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from qxmix.container.model import ModelHeader
from qxmix.running.cache import cache_of
from qxmix.running.compute import compute_estimate
from qxmix.running.device import Device
from qxmix.running.flags import flags_of
from qxmix.running.model import Cache, Running, Use
from qxmix.running.parts import Key, Stage, by_layer, n_copied, sizes_of, stages
from qxmix.running.states import may_do_without_latent


def running(header: ModelHeader, nbytes: Mapping[str, int], use: Use) -> Running:
    """What running a model takes.

    Args:
        header: The model, for the facts of its architecture.
        nbytes: For each tensor its bytes, which may be those of a plan.
        use: How and on what it is run.

    """
    sizes, cache, compute = sizes_of(nbytes), cache_of(header, use), compute_estimate(header, use)
    load = _Load(sizes, cache, compute.logits, n_copied(header, nbytes))
    order = stages(sizes, output_first=use.engine == "llama.cpp")
    gpus = [Device(f"GPU {i}", room, compute.each) for i, room in enumerate(use.vram)]
    cpu = Device("CPU", use.ram, compute.each)
    place = _with_experts if any(part == "experts" for _, part in sizes) else _by_layers
    counts = place(order, gpus, load) if gpus else ()
    placed = {key for gpu in gpus for key in gpu.keys}
    cpu.keys = {key: n for key, n in sizes.items() if key not in placed}
    cpu.cache = {i: n for i, n in cache.by_layer.items() if not any(i in gpu.cache for gpu in gpus)}
    cpu.logits = 0 if any(gpu.logits for gpu in gpus) else compute.logits
    unlatent = cache_of(header, use, latent=False) if may_do_without_latent(header, use.engine) else None
    return Running(use, cache, tuple(d.placed() for d in (*gpus, cpu)), flags_of(use, gpus, counts, order), unlatent)


@dataclass(frozen=True, slots=True)
class _Load:
    """What is to be placed."""

    sizes: Mapping[Key, int]
    """Bytes by layer and part."""
    cache: Cache
    logits: int
    """Bytes of the output's results."""
    copied: int
    """Bytes of embeddings that are the output, too."""

    def of(self, stage: Stage) -> int:
        """Bytes of a stage with its cache and its results."""
        kept = sum(self.cache.by_layer.get(layer, 0) for layer in stage.layers)
        return sum(self.sizes[key] for key in stage.keys) + kept + (self.logits + self.copied) * stage.has_output


def _by_layers(order: Sequence[Stage], gpus: Sequence[Device], load: _Load) -> tuple[int, ...]:
    """As many stages as fit on the GPUs; how many layers each has, the output counting as one."""
    for n in range(len(order), 0, -1):
        slots = by_layer(order[:n])
        counts = _packed([load.of(s) for s in slots], [gpu.left for gpu in gpus])
        if counts is not None:
            _put(slots, counts, gpus, load)
            return counts
    return (0,) * len(gpus)


def _with_experts(order: Sequence[Stage], gpus: Sequence[Device], load: _Load) -> tuple[int, ...]:
    """All but experts, then these on the GPU of their layer or else on any, until those of a layer fit nowhere."""
    slots = by_layer(order[:1])
    loads, rooms = [load.of(s) for s in slots], [gpu.left for gpu in gpus]
    counts = _packed(loads, rooms) or _shared_out(loads, rooms)
    _put(slots, counts, gpus, load)
    for stage in order[1:]:
        (key,) = stage.keys
        own = [gpu for gpu in gpus if key[0] in gpu.cache]
        chosen = next((gpu for gpu in (*own, *gpus) if load.sizes[key] <= gpu.left), None)
        if chosen is None:
            break
        chosen.keys[key] = load.sizes[key]
    return counts


def _packed(loads: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...] | None:
    """How many of the loads each room takes, one after the other: in proportion, or else as they fit."""
    for counts in (_shared_out(loads, rooms), _filled(loads, rooms)):
        ends = [0, *accumulate(counts)]
        used = [sum(loads[a:b]) for a, b in pairwise(ends)]
        if ends[-1] == len(loads) and all(n <= room for n, room in zip(used, rooms, strict=True)):
            return counts
    return None


def _shared_out(loads: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...]:
    """Each load where its middle falls when all lie in a row beside the rooms."""
    total, ends = sum(loads), [*accumulate(max(0, room) for room in rooms)]
    counts, done = [0] * len(rooms), 0
    for n in loads:
        middle = (2 * done + n) * ends[-1]
        counts[next((i for i, end in enumerate(ends) if middle < 2 * end * total), len(rooms) - 1)] += 1
        done += n
    return tuple(counts)


def _filled(loads: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...]:
    """As many as fit into each, one after the other."""
    counts, at = [0] * len(rooms), 0
    for i, room in enumerate(rooms):
        used = 0
        while at < len(loads) and used + loads[at] <= room:
            used, at, counts[i] = used + loads[at], at + 1, counts[i] + 1
    return tuple(counts)


def _put(slots: Sequence[Stage], counts: Sequence[int], gpus: Sequence[Device], load: _Load) -> None:
    for gpu, (a, b) in zip(gpus, pairwise([0, *accumulate(counts)]), strict=True):
        for slot in slots[a:b]:
            gpu.keys |= {key: load.sizes[key] for key in slot.keys}
            gpu.cache |= {layer: load.cache.by_layer.get(layer, 0) for layer in slot.layers}
            if slot.has_output:
                gpu.logits, gpu.copied = load.logits, load.copied
