"""Tiny models of many architectures that the engines load: all hyperparameters, weights that are all zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gguf
import numpy as np

from qxmix.demo.vocabulary import make_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

N_VOCAB = 400
_FLOATS = ("inp", "conv1d", "ssm_a", ".bias", "position_embd", "token_types")
"""In names of tensors that an engine wants as F32."""
Value = int | float | bool | list[int] | list[bool]


@dataclass(frozen=True)
class Tiny:
    """An architecture's facts and tensors."""

    arch: str
    facts: Mapping[str, Value]
    tensors: Mapping[str, tuple[int, ...]]
    """Shapes, row length first; ``{i}`` in a name stands for each layer."""
    n_layer: int = 2
    only: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Layers in which a tensor with ``{i}`` stands; without an entry it stands in all."""
    wordpiece: bool = False

    def write(self, path: Path) -> None:
        """Write it as F16."""
        writer = gguf.GGUFWriter(path, self.arch)
        writer.add_name(self.arch)
        for key, value in self.facts.items():
            _add(writer, f"{self.arch}.{key}", value)
        _add_vocabulary(writer, wordpiece=self.wordpiece)
        for name, shape in self.tensors.items():
            layers = self.only.get(name, range(self.n_layer)) if "{i}" in name else [0]
            for i in layers:
                kind = np.float32 if len(shape) == 1 or any(w in name for w in _FLOATS) else np.float16
                writer.add_tensor(name.replace("{i}", str(i)), np.zeros(shape[::-1], kind))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def _add_vocabulary(writer: gguf.GGUFWriter, *, wordpiece: bool) -> None:
    vocabulary = make_vocabulary(N_VOCAB)
    writer.add_tokenizer_model("bert" if wordpiece else "llama")
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types([1] * N_VOCAB if wordpiece else list(vocabulary.types))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    if wordpiece:
        writer.add_token_type_count(2)
        writer.add_sep_token_id(2)
        writer.add_pad_token_id(0)
        writer.add_mask_token_id(1)


def _common(n_layer: int, n_embd: int, n_ff: int, n_head: int, n_head_kv: int, **more: Value) -> dict[str, Value]:
    return {
        "block_count": n_layer,
        "context_length": 8192,
        "embedding_length": n_embd,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": N_VOCAB,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def _dense(n_embd: int, n_q: int, n_kv: int, n_ff: int, *, output: bool = True) -> dict[str, tuple[int, ...]]:
    ends = {"token_embd.weight": (n_embd, N_VOCAB), "output_norm.weight": (n_embd,)}
    return {
        **ends,
        **({"output.weight": (n_embd, N_VOCAB)} if output else {}),
        "blk.{i}.attn_norm.weight": (n_embd,),
        "blk.{i}.attn_q.weight": (n_embd, n_q),
        "blk.{i}.attn_k.weight": (n_embd, n_kv),
        "blk.{i}.attn_v.weight": (n_embd, n_kv),
        "blk.{i}.attn_output.weight": (n_q, n_embd),
        "blk.{i}.ffn_norm.weight": (n_embd,),
        "blk.{i}.ffn_gate.weight": (n_embd, n_ff),
        "blk.{i}.ffn_up.weight": (n_embd, n_ff),
        "blk.{i}.ffn_down.weight": (n_ff, n_embd),
    }


def _moe(dense: dict[str, tuple[int, ...]], n_embd: int, n_ff: int, n_expert: int) -> dict[str, tuple[int, ...]]:
    kept = {k: v for k, v in dense.items() if not k.startswith("blk.{i}.ffn_") or k.endswith("ffn_norm.weight")}
    return {
        **kept,
        "blk.{i}.ffn_gate_inp.weight": (n_embd, n_expert),
        "blk.{i}.ffn_gate_exps.weight": (n_embd, n_ff, n_expert),
        "blk.{i}.ffn_up_exps.weight": (n_embd, n_ff, n_expert),
        "blk.{i}.ffn_down_exps.weight": (n_ff, n_embd, n_expert),
    }


def _qk_norms(n_head: int) -> dict[str, tuple[int, ...]]:
    return {"blk.{i}.attn_q_norm.weight": (n_head,), "blk.{i}.attn_k_norm.weight": (n_head,)}


def _gemma(arch: str, n_layer: int) -> Tiny:
    more: dict[str, Value] = {"attention__key_length": 64, "attention__value_length": 64}
    more |= {"attention__sliding_window": 512, "rope__freq_base": 10000.0}
    tensors = _dense(128, 256, 128, 256, output=False)
    tensors |= {"blk.{i}.post_attention_norm.weight": (128,), "blk.{i}.post_ffw_norm.weight": (128,)}
    return Tiny(
        arch,
        _common(n_layer, 128, 256, 4, 2, **more),
        tensors | (_qk_norms(64) if arch == "gemma3" else {}),
        n_layer,
    )


def _deepseek(*, mla: bool) -> Tiny:
    rank, rope, nope, value, n_head = 128, 64, 64, 64, 4
    facts = _common(2, 256, 256, n_head, 1 if mla else n_head)
    facts |= {"attention.kv_lora_rank": rank, "rope.dimension_count": rope, "attention.q_lora_rank": 128}
    facts |= {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64, "expert_shared_count": 1}
    facts |= {"leading_dense_block_count": 2, "expert_weights_scale": 1.0, "expert_gating_func": 2}
    tensors = {k: v for k, v in _dense(256, 256, 256, 256).items() if "attn_" not in k or "norm" in k}
    tensors |= {
        "blk.{i}.attn_q_a.weight": (256, 128),
        "blk.{i}.attn_q_a_norm.weight": (128,),
        "blk.{i}.attn_q_b.weight": (128, n_head * (nope + rope)),
        "blk.{i}.attn_kv_a_mqa.weight": (256, rank + rope),
        "blk.{i}.attn_kv_a_norm.weight": (rank,),
        "blk.{i}.attn_output.weight": (n_head * value, 256),
    }
    if mla:
        facts |= {"attention.key_length": rank + rope, "attention.value_length": rank}
        facts |= {"attention.key_length_mla": nope + rope, "attention.value_length_mla": value}
        tensors |= {"blk.{i}.attn_k_b.weight": (nope, rank, n_head), "blk.{i}.attn_v_b.weight": (rank, value, n_head)}
    else:
        facts |= {"attention.key_length": nope + rope, "attention.value_length": value}
        tensors |= {"blk.{i}.attn_kv_b.weight": (rank, n_head * (nope + value))}
    return Tiny("deepseek2", facts, tensors)


def _mamba() -> Tiny:
    n_embd, inner, state, conv, rank = 128, 256, 16, 4, 8
    facts = _common(2, n_embd, 0, 0, 0)
    facts |= {"ssm.conv_kernel": conv, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": rank}
    return Tiny(
        "mamba",
        facts,
        {
            "token_embd.weight": (n_embd, N_VOCAB),
            "output_norm.weight": (n_embd,),
            "blk.{i}.attn_norm.weight": (n_embd,),
            "blk.{i}.ssm_in.weight": (n_embd, 2 * inner),
            "blk.{i}.ssm_conv1d.weight": (conv, inner),
            "blk.{i}.ssm_conv1d.bias": (inner,),
            "blk.{i}.ssm_x.weight": (inner, rank + 2 * state),
            "blk.{i}.ssm_dt.weight": (rank, inner),
            "blk.{i}.ssm_dt.bias": (inner,),
            "blk.{i}.ssm_a": (state, inner),
            "blk.{i}.ssm_d": (inner,),
            "blk.{i}.ssm_out.weight": (inner, n_embd),
        },
    )


def _bert() -> Tiny:
    facts = _common(2, 128, 256, 4, 4, attention__causal=False, attention__layer_norm_epsilon=1e-5, pooling_type=1)
    tensors = {k: v for k, v in _dense(128, 128, 128, 256, output=False).items() if "norm" not in k and "gate" not in k}
    tensors |= {"position_embd.weight": (128, 8192), "token_types.weight": (128, 2)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down", "ffn_up"):
        tensors[f"blk.{{i}}.{name}.bias"] = (256 if name == "ffn_up" else 128,)
    norms = ("token_embd_norm", "blk.{i}.attn_output_norm", "blk.{i}.layer_output_norm")
    tensors |= {f"{n}.{kind}": (128,) for n in norms for kind in ("weight", "bias")}
    return Tiny("bert", facts, tensors, wordpiece=True)


def _t5() -> Tiny:
    facts = _common(2, 128, 256, 4, 4, attention__key_length=32, attention__value_length=32)
    facts |= {"attention.relative_buckets_count": 8, "decoder_start_token_id": 0, "attention.layer_norm_epsilon": 1e-5}
    square = {f"attn_{n}.weight": (128, 128) for n in "qkvo"}
    feed = {"ffn_norm.weight": (128,), "ffn_up.weight": (128, 256), "ffn_down.weight": (256, 128)}
    encoder = {f"enc.blk.{{i}}.{n}": s for n, s in ({**square, "attn_norm.weight": (128,)} | feed).items()}
    decoder = {f"dec.blk.{{i}}.{n}": s for n, s in ({**square, "attn_norm.weight": (128,)} | feed).items()}
    decoder |= {f"dec.blk.{{i}}.cross_{n}": s for n, s in {**square, "attn_norm.weight": (128,)}.items()}
    ends = {"token_embd.weight": (128, N_VOCAB), "enc.output_norm.weight": (128,), "dec.output_norm.weight": (128,)}
    bias = {"enc.blk.{i}.attn_rel_b.weight": (4, 8), "dec.blk.{i}.attn_rel_b.weight": (4, 8)}
    return Tiny("t5", facts, {**ends, **encoder, **decoder, **bias}, only=dict.fromkeys(bias, (0,)))


def _gpt_oss() -> Tiny:
    facts = _common(4, 128, 64, 4, 2, attention__key_length=64, attention__value_length=64)
    facts |= {"attention.sliding_window": 128, "expert_count": 4, "expert_used_count": 2}
    facts |= {"expert_feed_forward_length": 64, "rope.freq_base": 10000.0}
    tensors = _moe(_dense(128, 256, 128, 64), 128, 64, 4)
    tensors["blk.{i}.post_attention_norm.weight"] = tensors.pop("blk.{i}.ffn_norm.weight")
    tensors |= {"blk.{i}.attn_sinks.weight": (4,)}
    for name, n in (("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 128), ("ffn_gate_inp", 4)):
        tensors[f"blk.{{i}}.{name}.bias"] = (n,)
    for name, n in (("ffn_gate_exps", 64), ("ffn_up_exps", 64), ("ffn_down_exps", 128)):
        tensors[f"blk.{{i}}.{name}.bias"] = (n, 4)
    return Tiny("gpt-oss", facts, tensors, 4)


TINY: dict[str, Tiny] = {
    "llama": Tiny("llama", _common(2, 256, 256, 4, 2, rope__dimension_count=64), _dense(256, 256, 128, 256)),
    "qwen3moe": Tiny(
        "qwen3moe",
        _common(
            2, 128, 128, 4, 2,
            attention__key_length=64, attention__value_length=64,
            expert_count=4, expert_used_count=2, expert_feed_forward_length=64,
        ),
        _moe(_dense(128, 256, 128, 64), 128, 64, 4) | _qk_norms(64),
    ),
    "gemma2": _gemma("gemma2", 4),
    "gemma3": _gemma("gemma3", 8),
    "deepseek2-mla": _deepseek(mla=True),
    "deepseek2-old": _deepseek(mla=False),
    "mamba": _mamba(),
    "bert": _bert(),
    "t5": _t5(),
    "gpt-oss": _gpt_oss(),
}  # fmt: skip
