"""Models of architectures for which llama.cpp has rules of its own, with one tensor of every kind that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.planning.models import Model, facts

if TYPE_CHECKING:
    from tests.planning.models import Fact, Shape

N_LAYER = 3
_PARTS = """
attn_q attn_k attn_v attn_output attn_gate attn_q_a attn_q_b attn_kv_a_mqa attn_k_b attn_v_b attn_qkv ffn_up ffn_down
ffn_gate ffn_gate_inp ffn_latent_up ffn_latent_down nextn.eh_proj hc_attn_fn hc_ffn_down indexer.attn_q_b indexer.attn_k
indexer.proj indexer_compressor_gate indexer_compressor_ape ssm_f_a ssm_f_b ssm_g_a ssm_g_b ssm_beta ssm_out decision.x
"""
_STACKED = ("ffn_up_exps", "ffn_gate_exps", "ffn_down_exps", "attn_v_exps")
_MLA: dict[str, Fact] = {
    "attention__key_length_mla": 64, "attention__value_length_mla": 64, "attention__kv_lora_rank": 2,
    "ssm__conv_kernel": 2, "kda__head_dim": 64, "expert_feed_forward_length": 64, "expert_shared_count": 2,
}  # fmt: skip
_FACTS: dict[str, dict[str, Fact]] = {
    "glm5-next": {
        **_MLA, "attention__q_lora_rank": 2, "attention__indexer__head_count": 2, "attention__indexer__key_length": 64,
        "attention__indexer__top_k": 2, "attention__indexer__kpool": 2, "hyper_connection__count": 4,
        "hyper_connection__sinkhorn_iterations": 2, "hyper_connection__epsilon": 1e-5,
    },
    "muse-spark": {
        "post_norm_epsilon": 1e-5, "attention__sliding_window": 2, "rope__freq_base_swa": 1e4, "moe_latent_size": 2,
        "final_logit_softcapping": 1.0, "logit_scale": 1.0, "expert_weights_scale": 1.0, "expert_gating_func": 2,
        "expert_weights_norm": True, "attention__sliding_window_pattern": [0, 1, 0], "expert_count": 4,
        "expert_used_count": 2,
    },
    "bailingmoe3": {
        **_MLA, "kda__gate_lower_bound": -1.0, "leading_dense_block_count": 2, "expert_gating_func": 2,
        "expert_count": 4, "expert_used_count": 2,
    },
    "vllm-decision2": {},
}  # fmt: skip
"""What the library wants to know before it quantizes."""


def newer(arch: str) -> Model:
    """A model of three layers with rows of 256 weights."""
    square: Shape = (256, 256)
    shapes: dict[str, Shape] = {"token_embd.weight": (256, 320), "output_norm.weight": (256,)}
    shapes |= {"output.weight": (256, 320), "decision.scorer.weight": square, "xdecision.scorer.weight": square}
    for i in range(N_LAYER):
        shapes |= {f"blk.{i}.{part}.weight": square for part in _PARTS.split()}
        shapes |= {f"blk.{i}.{part}.weight": (*square, 4) for part in _STACKED}
    more = {key.replace("__", "."): value for key, value in _FACTS[arch].items()}
    return Model(arch, {**facts(N_LAYER, 256, 8, 4), **more}, shapes)


NEWER = tuple(_FACTS)
