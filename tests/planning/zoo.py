"""The models that the mixes are held to: six whose decisions both engines gave, and more whose ik_llama.cpp gave."""

from __future__ import annotations

from typing import Any

from tests.planning.models import Fact, Model, Shape, facts


def attention(prefix: str, n_embd: int, n_head: int, n_head_kv: int, head: int) -> dict[str, Shape]:
    return {
        f"{prefix}attn_q.weight": (n_embd, head * n_head),
        f"{prefix}attn_k.weight": (n_embd, head * n_head_kv),
        f"{prefix}attn_v.weight": (n_embd, head * n_head_kv),
    }


def dense(
    arch: str, n_layer: int, n_embd: int, n_ff: int, n_head: int, n_head_kv: int,
    *, head: int = 32, tied: bool = False, qk_norm: bool = False, n_vocab: int = 320, **more: Any,
) -> Model:  # fmt: skip
    shapes: dict[str, Shape] = {"token_embd.weight": (n_embd, n_vocab), "output_norm.weight": (n_embd,)}
    if not tied:
        shapes["output.weight"] = (n_embd, n_vocab)
    for i in range(n_layer):
        b = f"blk.{i}."
        shapes |= {f"{b}attn_norm.weight": (n_embd,), **attention(b, n_embd, n_head, n_head_kv, head)}
        if qk_norm:
            shapes |= {f"{b}attn_q_norm.weight": (head,), f"{b}attn_k_norm.weight": (head,)}
        shapes |= {
            f"{b}attn_output.weight": (head * n_head, n_embd),
            f"{b}ffn_norm.weight": (n_embd,),
            f"{b}ffn_gate.weight": (n_embd, n_ff),
            f"{b}ffn_up.weight": (n_embd, n_ff),
            f"{b}ffn_down.weight": (n_ff, n_embd),
        }
    return Model(arch, facts(n_layer, n_embd, n_head, n_head_kv, **more), shapes, n_vocab)


def experts(
    arch: str, n_layer: int, n_ff: int, n_ff_expert: int, n_expert: int, n_head: int, n_head_kv: int,
    *, lead: int = 0, shared: bool = False, head: int = 32, mla: tuple[int, int, int, int] | None = None, **more: Any,
) -> Model:  # fmt: skip
    """A model with experts; ``mla``: rank, plain, rotary and value lengths of DeepSeek's attention."""
    n_embd = 256
    shapes: dict[str, Shape] = {
        "token_embd.weight": (n_embd, 320),
        "output_norm.weight": (n_embd,),
        "output.weight": (n_embd, 320),
    }
    types = {}
    for i in range(n_layer):
        b = f"blk.{i}."
        shapes[f"{b}attn_norm.weight"] = (n_embd,)
        if mla:
            rank, nope, rope, value = mla
            shapes |= {
                f"{b}attn_q_a.weight": (n_embd, 256),
                f"{b}attn_q_a_norm.weight": (256,),
                f"{b}attn_q_b.weight": (256, n_head * (nope + rope)),
                f"{b}attn_kv_a_mqa.weight": (n_embd, rank + rope),
                f"{b}attn_kv_a_norm.weight": (rank,),
                f"{b}attn_k_b.weight": (nope, rank, n_head),
                f"{b}attn_v_b.weight": (rank, value, n_head),
                f"{b}attn_output.weight": (n_head * value, n_embd),
            }
        else:
            shapes |= attention(b, n_embd, n_head, n_head_kv, head)
            shapes[f"{b}attn_output.weight"] = (head * n_head, n_embd)
        shapes[f"{b}ffn_norm.weight"] = (n_embd,)
        if i < lead:
            shapes |= {f"{b}ffn_{p}.weight": (n_embd, n_ff) for p in ("gate", "up")}
            shapes[f"{b}ffn_down.weight"] = (n_ff, n_embd)
            continue
        shapes[f"{b}ffn_gate_inp.weight"] = (n_embd, n_expert)
        types[f"{b}ffn_gate_inp.weight"] = "F32"
        shapes |= {f"{b}ffn_{p}_exps.weight": (n_embd, n_ff_expert, n_expert) for p in ("gate", "up")}
        shapes[f"{b}ffn_down_exps.weight"] = (n_ff_expert, n_embd, n_expert)
        if shared:
            shapes |= {f"{b}ffn_{p}_shexp.weight": (n_embd, n_ff_expert) for p in ("gate", "up")}
            shapes[f"{b}ffn_down_shexp.weight"] = (n_ff_expert, n_embd)
        if mla:
            shapes[f"{b}exp_probs_b.bias"] = (n_expert,)
    known: dict[str, Fact] = {
        "expert_count": n_expert,
        "expert_used_count": 2,
        "expert_feed_forward_length": n_ff_expert,
    }
    known |= {"leading_dense_block_count": lead, **({"expert_shared_count": 2} if shared else {})}
    if mla:
        rank, nope, rope, value = mla
        known |= {
            "attention.kv_lora_rank": rank, "attention.q_lora_rank": 256, "attention.key_length": rank + rope,
            "attention.value_length": rank, "attention.key_length_mla": nope + rope,
            "attention.value_length_mla": value, "rope.dimension_count": rope,
            "expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 1.0,
        }  # fmt: skip
    return Model(arch, facts(n_layer, n_embd, n_head, 1 if mla else n_head_kv, **more) | known, shapes, 320, types)


def falcon(n_layer: int, n_embd: int) -> Model:
    """Fused attention, no gate, not a multiple of 256 in the larger one."""
    shapes: dict[str, Shape] = {
        "token_embd.weight": (n_embd, 320),
        "output_norm.weight": (n_embd,),
        "output_norm.bias": (n_embd,),
        "output.weight": (n_embd, 320),
    }
    for i in range(n_layer):
        b = f"blk.{i}."
        shapes |= {
            f"{b}attn_norm.weight": (n_embd,),
            f"{b}attn_norm.bias": (n_embd,),
            f"{b}attn_qkv.weight": (n_embd, n_embd + 64),
            f"{b}attn_output.weight": (n_embd, n_embd),
            f"{b}ffn_up.weight": (n_embd, 2 * n_embd),
            f"{b}ffn_down.weight": (2 * n_embd, n_embd),
        }
    return Model("falcon", facts(n_layer, n_embd, 8, 1), shapes)


def mamba(n_layer: int) -> Model:
    n_embd, n_inner, n_state, n_dt = 256, 512, 16, 64
    shapes: dict[str, Shape] = {"token_embd.weight": (n_embd, 320), "output_norm.weight": (n_embd,)}
    for i in range(n_layer):
        b = f"blk.{i}."
        shapes |= {
            f"{b}attn_norm.weight": (n_embd,),
            f"{b}ssm_in.weight": (n_embd, 2 * n_inner),
            f"{b}ssm_conv1d.weight": (4, n_inner),
            f"{b}ssm_conv1d.bias": (n_inner,),
            f"{b}ssm_x.weight": (n_inner, n_dt + 2 * n_state),
            f"{b}ssm_dt.weight": (n_dt, n_inner),
            f"{b}ssm_dt.bias": (n_inner,),
            f"{b}ssm_a": (n_state, n_inner),
            f"{b}ssm_d": (n_inner,),
            f"{b}ssm_out.weight": (n_inner, n_embd),
        }
    more = {"ssm.conv_kernel": 4, "ssm.inner_size": n_inner, "ssm.state_size": n_state, "ssm.time_step_rank": n_dt}
    types = {n: "F32" for n in shapes if n.endswith(("ssm_a", "conv1d.weight"))}
    return Model("mamba", facts(n_layer, n_embd, 0, 0) | more, shapes, 320, types)


def hybrid(n_layer: int) -> Model:
    """Three linear layers, then one of full attention, as in Qwen3-Next; with experts and a shared one."""
    n_embd, n_ff, n_expert = 256, 96, 16
    shapes: dict[str, Shape] = {
        "token_embd.weight": (n_embd, 320),
        "output_norm.weight": (n_embd,),
        "output.weight": (n_embd, 320),
    }
    types = {}
    for i in range(n_layer):
        b = f"blk.{i}."
        shapes[f"{b}attn_norm.weight"] = (n_embd,)
        if i % 4 == 3:
            shapes |= attention(b, n_embd, 8, 2, 64)
            shapes[f"{b}attn_output.weight"] = (512, n_embd)
        else:
            shapes |= {
                f"{b}attn_qkv.weight": (n_embd, 512),
                f"{b}attn_gate.weight": (n_embd, 256),
                f"{b}ssm_conv1d.weight": (4, 512),
                f"{b}ssm_beta_alpha.weight": (n_embd, 16),
                f"{b}ssm_out.weight": (256, n_embd),
            }
            types[f"{b}ssm_conv1d.weight"] = "F32"
        shapes |= {
            f"{b}ffn_gate_inp.weight": (n_embd, n_expert),
            f"{b}ffn_gate_exps.weight": (n_embd, n_ff, n_expert),
            f"{b}ffn_up_exps.weight": (n_embd, n_ff, n_expert),
            f"{b}ffn_down_exps.weight": (n_ff, n_embd, n_expert),
            f"{b}ffn_gate_shexp.weight": (n_embd, n_ff),
            f"{b}ffn_up_shexp.weight": (n_embd, n_ff),
            f"{b}ffn_down_shexp.weight": (n_ff, n_embd),
        }
        types[f"{b}ffn_gate_inp.weight"] = "F32"
    more = {
        "expert_count": n_expert, "expert_used_count": 2, "expert_feed_forward_length": n_ff,
        "expert_shared_feed_forward_length": n_ff, "ssm.conv_kernel": 4, "ssm.inner_size": 256, "ssm.state_size": 32,
        "ssm.time_step_rank": 8, "ssm.group_count": 4, "attention.key_length": 64, "attention.value_length": 64,
    }  # fmt: skip
    return Model("qwen3next", facts(n_layer, n_embd, 8, 2) | more, shapes, 320, types)


MODELS = {
    "llama1-7b": dense("llama", 32, 256, 512, 8, 8),
    "mistral-7b": dense("llama", 32, 256, 512, 8, 2),
    "smollm-576": dense("llama", 30, 576, 1536, 9, 3, head=64, tied=True),
    "qwen3-0.6b": dense("qwen3", 28, 256, 768, 16, 8, tied=True, qk_norm=True),
    "mixtral-8x7b": experts("llama", 32, 512, 512, 8, 8, 2),
    "deepseek-v2-lite-like": experts(
        "deepseek2", 27, 704, 96, 10, 16, 16, lead=1, shared=True, mla=(512, 128, 64, 128)
    ),
}
"""As their namesakes; all decisions of both engines are known."""

MORE = {
    "falcon-7b": falcon(32, 256),
    "falcon-40b": falcon(60, 320),
    "mamba": mamba(24),
    "llama3-8b": dense("llama", 32, 256, 512, 8, 2, n_vocab=128256),
    "llama3-70b": dense("llama", 80, 256, 512, 8, 1, n_vocab=128256),
    "llama-65b": dense("llama", 80, 256, 512, 8, 8),
    "qwen2-72b": dense("qwen2", 80, 256, 512, 8, 1, n_vocab=152064),
    "qwen3-8b": dense("qwen3", 36, 512, 512, 16, 4, qk_norm=True, n_vocab=151936),
    "granite-moe-2": experts("llama", 24, 512, 256, 2, 8, 2),
    "mixtral-16": experts("llama", 32, 512, 512, 16, 8, 8),
    "qwen3-moe": experts("qwen3moe", 48, 512, 128, 24, 16, 2, shared=False),
    "gemma2-tied": dense("gemma2", 26, 288, 576, 8, 4, tied=True),
    "qwen3-next": hybrid(48),
}
"""Other kinds of model: all decisions of ik_llama.cpp are known."""
