"""A llama model of any size with heavy-tailed weights, and an importance matrix for it: only to be quantized."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np

import qxmix

if TYPE_CHECKING:
    from pathlib import Path

N_EMBD, N_FF, N_VOCAB = 2048, 8192, 320
POOL = 1 << 24
"""Random weights that the tensors are cut from, each at a place of its own: drawing 2 billion takes a minute."""


def make_model(path: Path, n_layers: int) -> Path:
    """Write an F16 model; a layer has 134 MB."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(n_layers)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_context_length(2048)
    writer.add_head_count(16)
    writer.add_head_count_kv(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(N_VOCAB)])
    writer.add_token_types([1] * N_VOCAB)
    writer.add_token_merges(["t 0", "t 1"])
    rng = np.random.default_rng(3)
    pool = (0.02 * rng.standard_t(5, POOL)).astype(np.float16)

    def add(name: str, n_cols: int, n_rows: int) -> None:
        data = np.resize(np.roll(pool, int(rng.integers(POOL))), n_cols * n_rows)
        writer.add_tensor(f"{name}.weight", data.reshape(n_rows, n_cols))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(N_EMBD, np.float32))

    add("token_embd", N_EMBD, N_VOCAB)
    add_norm("output_norm")
    add("output", N_EMBD, N_VOCAB)
    for i in range(n_layers):
        add_norm(f"blk.{i}.attn_norm")
        add_norm(f"blk.{i}.ffn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{name}", N_EMBD, N_EMBD)
        add(f"blk.{i}.ffn_gate", N_EMBD, N_FF)
        add(f"blk.{i}.ffn_up", N_EMBD, N_FF)
        add(f"blk.{i}.ffn_down", N_FF, N_EMBD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_imatrix(path: Path, model: Path) -> None:
    """Write an importance matrix in the legacy format for all matrices of ``model`` but the embedding."""
    rng = np.random.default_rng(5)
    chosen = [t for t in qxmix.read_header(model).tensors if len(t.shape) > 1 and not t.name.startswith("token_embd")]
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(chosen)))
        for tensor in chosen:
            name = tensor.name.encode()
            file.write(struct.pack("<i", len(name)) + name + struct.pack("<ii", 1, tensor.n_cols))
            file.write((rng.gamma(0.7, 1.0, tensor.n_cols) + 1e-3).astype(np.float32).tobytes())
