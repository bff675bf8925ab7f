"""A tiny BERT for tests: two layers of 64, words as tokens, mean pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("the", "world", "of", "a", "game", "was", "made", "by", "two", "people", "in", "city", ".")
N_EMBD, N_FF, N_LAYERS, N_HEADS, N_CTX = 64, 128, 2, 4, 128


def make_bert(path: Path) -> None:
    """Write it, F16 matrices and F32 norms and biases."""
    rng = np.random.default_rng(11)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("\u2581" + word for word in WORDS)]
    tokens += [f"[unused{i}]" for i in range(64 - len(tokens))]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny bert")
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 5 + [1] * (len(tokens) - 5))
    for name, i in (("padding", 0), ("unknown", 1), ("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("mask", 4)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", i)

    def matrix(name: str, n_rows: int, n_cols: int) -> None:
        writer.add_tensor(name, (rng.standard_normal((n_rows, n_cols)) / 8).astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(N_EMBD, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(N_EMBD, np.float32))

    matrix("token_embd.weight", len(tokens), N_EMBD)
    matrix("position_embd.weight", N_CTX, N_EMBD)
    writer.add_tensor("token_types.weight", (rng.standard_normal((2, N_EMBD)) / 8).astype(np.float32))
    norm("token_embd_norm")
    for layer in range(N_LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{part}.weight", N_EMBD, N_EMBD)
            writer.add_tensor(f"blk.{layer}.{part}.bias", np.zeros(N_EMBD, np.float32))
        norm(f"blk.{layer}.attn_output_norm")
        matrix(f"blk.{layer}.ffn_up.weight", N_FF, N_EMBD)
        writer.add_tensor(f"blk.{layer}.ffn_up.bias", np.zeros(N_FF, np.float32))
        matrix(f"blk.{layer}.ffn_down.weight", N_EMBD, N_FF)
        writer.add_tensor(f"blk.{layer}.ffn_down.bias", np.zeros(N_EMBD, np.float32))
        norm(f"blk.{layer}.layer_output_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
