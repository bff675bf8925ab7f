"""Where weights and cache go: on the GPUs what every token needs, then as many layers of experts as fit.

Attention, shared experts, dense layers, the output and the cache are read for each token; an expert only now and then.
So with experts all but those goes to the GPUs (``-ngl 99``), and the experts of the first layers, as far as there is
room; ``-ot`` keeps the others in memory.  Without experts whole layers go, the last ones first, as ``-ngl N`` does.
The embeddings are looked up, not multiplied, and both engines keep them in memory.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from qxmix.recipe.categories import category_of, layer_of
from qxmix.running.cache import cache_of
from qxmix.running.facts import Facts
from qxmix.running.model import Placed, Running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qxmix.container.model import ModelHeader
    from qxmix.planning.model import Plan
    from qxmix.running.model import Cache, Part, Use

_EVERYTHING = 99
"""What people write for all layers."""


def part_of(name: str) -> Part:
    """What a tensor does, as far as it matters where it is."""
    category = category_of(name)
    if category == "token_embd":
        return "embeddings"
    if category == "output" or name.startswith("output"):
        return "output"
    if "shexp" in name:
        return "shared experts"
    if "_exps" in name or ".ffn_gate_inp" in name:
        return "experts"
    if category.startswith("ffn"):
        return "feed-forward"
    return "attention" if "attn" in name or "ssm" in name else "other"


def running(plan: Plan, use: Use) -> Running:
    """What running the output of a plan takes."""
    sizes: dict[tuple[int | None, Part], int] = defaultdict(int)
    for tensor in plan.tensors:
        sizes[layer_of(tensor.name), part_of(tensor.name)] += tensor.nbytes
    cache, compute = cache_of(plan.header, use), compute_estimate(plan.header, use)
    if not use.vram:
        cpu = Placed("CPU", _by_part(sizes, sizes), cache.nbytes, compute, use.ram)
        return Running(use, cache, (cpu,), _flags(use, n_layers=0, experts_left=()))
    if any(part == "experts" for _, part in sizes):
        return _with_experts(sizes, cache, compute, use)
    return _by_layers(sizes, cache, compute, use)


def compute_estimate(header: ModelHeader, use: Use) -> int:
    """Bytes of the buffers for results in between, roughly: logits of a batch, and some rows of activations of each.

    An estimate: engines reuse these buffers in ways that differ from version to version.
    """
    facts = Facts(header)
    tokens = next((f.array[1] for f in header.metadata if f.key == "tokenizer.ggml.tokens" and f.array), 0)
    n_vocab = facts.integer("vocab_size") or tokens
    n_ff = max(facts.per_layer("feed_forward_length", 1), default=0)
    activations = 4 * (facts.integer("embedding_length") or 0) + 3 * n_ff
    return 4 * use.n_ubatch * (n_vocab + activations) + 2 * use.n_ubatch * use.n_ctx


Sizes = dict[tuple["int | None", "Part"], int]


def _by_part(sizes: Sizes, keys: Iterable[tuple[int | None, Part]]) -> dict[Part, int]:
    parts: dict[Part, int] = defaultdict(int)
    for key in keys:
        parts[key[1]] += sizes[key]
    return dict(parts)


def _with_experts(sizes: Sizes, cache: Cache, compute: int, use: Use) -> Running:
    fixed = [key for key in sizes if key[1] not in {"experts", "embeddings"}]
    left = sum(use.vram) - sum(sizes[key] for key in fixed) - cache.nbytes - compute
    on_gpu = list(fixed)
    experts_left: list[tuple[int | None, Part]] = []
    for key in sorted((key for key in sizes if key[1] == "experts"), key=lambda key: key[0] or 0):
        if not experts_left and sizes[key] <= left:
            left -= sizes[key]
            on_gpu.append(key)
        else:
            experts_left.append(key)
    layers = [layer for layer, _ in experts_left if layer is not None]
    return _split(sizes, on_gpu, cache.nbytes, compute, cache, use, _flags(use, _EVERYTHING, layers))


def _by_layers(sizes: Sizes, cache: Cache, compute: int, use: Use) -> Running:
    layers = sorted({layer for layer, _ in sizes if layer is not None}, reverse=True)
    outside = [key for key in sizes if key[0] is None and key[1] != "embeddings"]
    of_outside = sum(sizes[key] for key in outside)
    left, taken, on_gpu, cached = sum(use.vram) - compute, 0, [], 0
    # The output counts as one layer more, and goes first.
    if of_outside <= left:
        left, taken, on_gpu = left - of_outside, 1, list(outside)
        for layer in layers:
            keys = [key for key in sizes if key[0] == layer]
            size = sum(sizes[key] for key in keys) + cache.by_layer.get(layer, 0)
            if size > left:
                break
            left, taken, cached = left - size, taken + 1, cached + cache.by_layer.get(layer, 0)
            on_gpu += keys
    n = _EVERYTHING if taken == len(layers) + 1 else taken
    return _split(sizes, on_gpu, cached, compute, cache, use, _flags(use, n, ()))


def _split(
    sizes: Sizes, on_gpu: list[tuple[int | None, Part]], cached: int, compute: int, cache: Cache, use: Use,
    flags: tuple[str, ...],
) -> Running:  # fmt: skip
    """Share what is on the GPUs among them by their room; the rest is in memory."""
    chosen = set(on_gpu)
    rest = Placed("CPU", _by_part(sizes, (k for k in sizes if k not in chosen)), cache.nbytes - cached, 0, use.ram)
    parts, total = _by_part(sizes, on_gpu), max(1, sum(use.vram))
    gpus, given = [], 0
    for i, room in enumerate(use.vram):
        upto = given + room
        share = {p: n * upto // total - n * given // total for p, n in parts.items()}
        of_cache = cached * upto // total - cached * given // total
        of_compute = compute * upto // total - compute * given // total
        gpus.append(Placed(f"GPU {i}", share, of_cache, of_compute, room))
        given = upto
    return Running(use, cache, (*gpus, rest), flags)


def _flags(use: Use, n_layers: int, experts_left: Iterable[int]) -> tuple[str, ...]:
    """Options of llama-server, llama-cli and their like."""
    flags = [f"-c {use.n_ctx}"]
    if use.kv_type.name != "F16":
        name = use.kv_type.name.lower()
        flags += [f"-ctk {name}", f"-ctv {name}"]
    if use.n_parallel > 1:
        flags.append(f"-np {use.n_parallel}")
    if use.vram:
        flags.append(f"-ngl {n_layers}")
        left = sorted(experts_left)
        if left:
            flags.append(f'-ot "blk\\.({"|".join(map(str, left))})\\.ffn_(up|gate|down|gate_up)_exps=CPU"')
        if len(use.vram) > 1:
            flags.append("-ts " + ",".join(f"{n / (1 << 30):.3g}" for n in use.vram))
    return tuple(flags)
