"""A llama model of any size with heavy-tailed weights, and an importance matrix for it: only to be quantized."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np

import qxmix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_EMBD, N_FF, N_VOCAB = 2048, 8192, 320
POOL = 1 << 24
"""Random weights that the tensors are cut from, each at a place of its own: drawing 2 billion takes a minute."""


def make_model(path: Path, n_layers: int) -> Path:
    """Write an F16 model tensor by tensor; a layer has 134 MB."""
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

    tensors = dict(_shapes(n_layers))
    for name, shape in tensors.items():
        dtype = np.dtype(np.float16 if len(shape) > 1 else np.float32)
        writer.add_tensor_info(f"{name}.weight", shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for shape in tensors.values():
        if len(shape) > 1:
            data = np.resize(np.roll(pool, int(rng.integers(POOL))), shape)
        else:
            data = np.ones(shape, np.float32)
        writer.write_tensor_data(data)
    writer.close()
    return path


def _shapes(n_layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors in the order of the file; a vector is a norm."""
    square, wide = (N_EMBD, N_EMBD), (N_FF, N_EMBD)
    yield "token_embd", (N_VOCAB, N_EMBD)
    yield "output_norm", (N_EMBD,)
    yield "output", (N_VOCAB, N_EMBD)
    for i in range(n_layers):
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{i}.{name}", (N_EMBD,)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{i}.{name}", square
        yield f"blk.{i}.ffn_gate", wide
        yield f"blk.{i}.ffn_up", wide
        yield f"blk.{i}.ffn_down", wide[::-1]


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
