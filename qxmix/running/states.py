"""What each layer keeps of the tokens so far, from header facts alone, for each engine.

Sources: llama.cpp's ``llama_hparams`` (``n_embd_k_gqa``, ``n_embd_r``, ``n_embd_s``, ``set_swa_pattern``),
``llama_kv_cache`` and ``create_memory``; ik_llama.cpp's ``llama_kv_cache_init``.  What the engines report when they
load small models of some of these architectures is held equal by tests; one that nobody has looked at has no formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qxmix.container.model import ModelHeader
from qxmix.quants import Engine
from qxmix.running.facts import Facts
from qxmix.running.model import LayerState, States, Unknown

WITHOUT_CACHE = frozenset(
    "bert modern-bert neo-bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 gemma-embedding t5encoder dream "  # noqa: SIM905 - a line for each would fill the page
    "llada llada-moe rnd1 wavtokenizer-dec".split()
)
"""Architectures that look at a whole text at once: in llama.cpp they keep nothing."""

_WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2, "olmo2": 4}
"""Of every so many layers all but the last have a sliding window; others tell it in their metadata, or have none."""

_RECURRENT = frozenset({"mamba", "mamba2"})
"""Architectures all of whose layers are recurrent, with the states of Mamba."""
_BY_HEADS = frozenset({"jamba", "granitehybrid", "nemotron_h"})
"""Architectures whose recurrent layers are those that have no heads for keys and values."""
_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe"})
"""Architectures with attention in every n-th layer and a gated delta net in the others."""

_STANDARD = frozenset(
    "llama llama4 mistral3 qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe gemma phi2 phi3 falcon "  # noqa: SIM905 - a line for each
    "gptneox mpt bloom starcoder starcoder2 stablelm orion internlm2 minicpm command-r dbrx olmo olmoe glm4 glm4moe "
    "chatglm deepseek t5 bitnet granite granitemoe exaone ernie4_5 ernie4_5-moe hunyuan-moe hunyuan-dense dots1 "
    "seed_oss smollm3 nemotron baichuan arctic bailingmoe grok gpt2 plm".split()
)
"""Architectures with attention in every layer, keys and values of each token, and no window."""
_LATENT = "deepseek2"


class _Widths(NamedTuple):
    """Lengths of keys and values of a head."""

    key: int
    value: int


def may_do_without_latent(header: ModelHeader, engine: Engine) -> bool:
    """Whether the engine can be told to keep keys and values of every head instead of the latent of MLA.

    ``-mla 0`` of ik_llama.cpp, where the file has what both are made of; llama.cpp keeps what the file is made for.
    """
    return header.architecture == _LATENT and engine == "ik_llama.cpp" and not _made_for_latent(Facts(header))


def layer_states(header: ModelHeader, engine: Engine, *, latent: bool = True) -> States | Unknown:
    """What every layer keeps, or why nobody can say; without ``latent`` as where the engine is told to do without."""
    facts, arch = Facts(header), header.architecture
    if arch in WITHOUT_CACHE and engine == "llama.cpp":
        return States(())
    n_layer = facts.integer("block_count")
    if not n_layer or not (facts.per_layer("attention.head_count", n_layer) or arch in _RECURRENT):
        return Unknown("the model does not say how many layers and heads it has")
    n_kept = n_layer - (facts.integer("nextn_predict_layers") or 0)
    special = (
        {_LATENT: _latent if latent else _every_token}
        | dict.fromkeys(_RECURRENT, _recurrent)
        | dict.fromkeys(_INTERVAL, _by_interval)
    )
    special |= dict.fromkeys(_BY_HEADS, _by_heads) | dict.fromkeys(_WINDOW_PERIODS, _windowed)
    if arch not in special and arch not in _STANDARD | WITHOUT_CACHE:
        return Unknown(f"no formula for the cache of the architecture {arch!r} is known here")
    windowed = facts.has("attention.sliding_window_pattern")
    found = special.get(arch, _windowed if windowed else _every_token)(facts, n_kept, engine)
    if isinstance(found, Unknown) or facts.has("attention.key_length"):
        return found
    return found._replace(layers=tuple(_as_wide_as_made(found.layers, header)))


def _as_wide_as_made(layers: Iterable[LayerState], header: ModelHeader) -> Iterator[LayerState]:
    """The states by the matrices that make keys and values.

    Where no length of heads is given, the engines take an even share of the embedding, and refuse the model if its
    matrices are wider: a header like that has lost the length.
    """
    n_rows = {t.name: t.n_rows for t in header.tensors}
    for layer in layers:
        key, value = (n_rows.get(f"blk.{layer.layer}.attn_{kind}.weight") for kind in "kv")
        yield layer._replace(n_key=key, n_value=value) if layer.n_key and key and value else layer


def _widths(facts: Facts) -> _Widths:
    n_embd = facts.integer("embedding_length") or 0
    heads = facts.per_layer("attention.head_count", 1)
    of_head = n_embd // max(1, heads[0] if heads else 1)
    key = facts.integer("attention.key_length") or of_head
    return _Widths(key, facts.integer("attention.value_length") or of_head)


def _attention(facts: Facts, layer: int, n_layer: int, *, windowed: bool = False) -> LayerState:
    widths = _widths(facts)
    heads = facts.per_layer("attention.head_count_kv", n_layer) or facts.per_layer("attention.head_count", n_layer)
    n_heads = heads[layer] if layer < len(heads) else 0
    return LayerState(layer, n_heads * widths.key, n_heads * widths.value, windowed)


def _every_token(facts: Facts, n_layer: int, _engine: Engine) -> States:
    return States(tuple(_attention(facts, i, n_layer) for i in range(n_layer)))


def _windowed(facts: Facts, n_layer: int, engine: Engine) -> States:
    """ik_llama.cpp keeps all tokens of every layer, unless it is told to compress."""
    n_window = facts.integer("attention.sliding_window") or 0
    flags = facts.flags("attention.sliding_window_pattern", n_layer)
    if flags is None:
        period = facts.integer("attention.sliding_window_pattern") or _WINDOW_PERIODS.get(facts.arch, 1)
        flags = [i % period < period - 1 for i in range(n_layer)]
    on = n_window > 0 and engine == "llama.cpp"
    return States(
        tuple(_attention(facts, i, n_layer, windowed=on and flags[i]) for i in range(n_layer)), n_window if on else 0
    )


def _latent(facts: Facts, n_layer: int, engine: Engine) -> States | Unknown:
    """MLA: one latent for keys and values, where the file is made for it."""
    rank, n_rope = facts.integer("attention.kv_lora_rank"), facts.integer("rope.dimension_count")
    if rank is None or n_rope is None:
        return Unknown("the model does not say the rank of its latent cache")
    if engine == "ik_llama.cpp" or _made_for_latent(facts):
        return States(tuple(LayerState(i, rank + n_rope) for i in range(n_layer)))
    return States(tuple(_attention(facts, i, n_layer) for i in range(n_layer)))


def _made_for_latent(facts: Facts) -> bool:
    return facts.has("attention.key_length_mla")


def _by_interval(facts: Facts, n_layer: int, _engine: Engine) -> States:
    interval = facts.integer("full_attention_interval") or 4
    return States(
        tuple(
            _attention(facts, i, n_layer) if (i + 1) % interval == 0 else LayerState(i, n_recurrent=_mamba(facts))
            for i in range(n_layer)
        )
    )


def _by_heads(facts: Facts, n_layer: int, _engine: Engine) -> States:
    states = [_attention(facts, i, n_layer) for i in range(n_layer)]
    return States(tuple(s if s.n_key else LayerState(s.layer, n_recurrent=_mamba(facts)) for s in states))


def _recurrent(facts: Facts, n_layer: int, engine: Engine) -> States | Unknown:
    if engine == "ik_llama.cpp":
        return Unknown("ik_llama.cpp does not run models of this architecture")
    return States(tuple(LayerState(i, n_recurrent=_mamba(facts)) for i in range(n_layer)))


def _mamba(facts: Facts) -> int:
    """Values of the convolution's state and of the state space's: ``n_embd_r + n_embd_s``.

    Of a gated delta net the second is a matrix for each head of the values, as long as the keys' heads.
    """
    n_conv, n_inner = facts.integer("ssm.conv_kernel") or 0, facts.integer("ssm.inner_size") or 0
    n_state, n_group = facts.integer("ssm.state_size") or 0, facts.integer("ssm.group_count") or 0
    return max(0, n_conv - 1) * (n_inner + 2 * n_group * n_state) + n_state * n_inner
