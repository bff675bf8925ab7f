"""Write a small model of the llama architecture that the engines load and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qxmix.demo.numbers import heavy_tailed
from qxmix.demo.shapes import DENSE, MOE, DemoShape
from qxmix.demo.vocabulary import N_BYTES, N_CONTROL, make_vocabulary

if TYPE_CHECKING:
    from gguf import GGUFWriter

DEMO_SEED = 295
"""The seed of the demo's weights."""
_BYTE_GAIN = np.float32(0.25)
"""Output rows of bytes are smaller, so that generated text is made of pieces that can be read."""


def make_demo_model(path: Path, *, moe: bool = False, seed: int = DEMO_SEED) -> None:
    """Write a model of 4 MB (mixture of experts: 3 MB) to ``path``, the same bytes on every machine.

    Matrices are F16, norms and the router F32.  Rows of ``ffn_down`` are 448 (192 with experts) weights long, which
    256 does not divide; all other rows are 256 long.  Nothing is trained: its text is noise, yet differences between
    quantized files and the original show as they do in a real model.

    Args:
        path: the file to write; replaced if it exists.
        moe: four experts per layer, two of them used per token.
        seed: weights differ with it.

    """
    import gguf  # noqa: PLC0415 - 0.2 s that nobody else on the command line needs

    shape = MOE if moe else DENSE
    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer, shape)
    for name, weights in _tensors(shape, seed):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_metadata(writer: GGUFWriter, shape: DemoShape) -> None:
    vocabulary = make_vocabulary(shape.n_vocab)
    writer.add_name("qxmix demo" + (" with experts" if shape.n_expert else ""))
    writer.add_file_type(1)  # mostly F16
    writer.add_quantization_version(2)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_vocab_size(shape.n_vocab)
    if shape.n_expert:
        writer.add_expert_count(shape.n_expert)
        writer.add_expert_used_count(shape.n_expert_used)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types(list(vocabulary.types))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=False)


def _tensors(shape: DemoShape, seed: int) -> Iterator[tuple[str, NDArray[np.float16] | NDArray[np.float32]]]:
    norm = np.ones(shape.n_embd, np.float32)
    embeddings = (shape.n_embd, shape.n_vocab)
    yield "token_embd.weight", _matrix(seed, "token_embd.weight", embeddings, np.float32(0.5)).astype(np.float16)
    for layer in range(shape.n_layer):
        yield f"blk.{layer}.attn_norm.weight", norm
        for name, dims in shape.layer_matrices().items():
            full = f"blk.{layer}.{name}"
            if name.startswith("ffn_gate"):
                yield f"blk.{layer}.ffn_norm.weight", norm
                if shape.n_expert:
                    router = f"blk.{layer}.ffn_gate_inp.weight"
                    yield router, _matrix(seed, router, (shape.n_embd, shape.n_expert), _gain(shape.n_embd))
            yield full, _matrix(seed, full, dims, _gain(dims[0])).astype(np.float16)
    yield "output_norm.weight", norm
    output = _matrix(seed, "output.weight", embeddings, _gain(shape.n_embd))
    output[:N_CONTROL] = 0  # a greedy walk must not end the text
    output[N_CONTROL : N_CONTROL + N_BYTES] *= _BYTE_GAIN
    yield "output.weight", output.astype(np.float16)


def _matrix(seed: int, name: str, dims: tuple[int, ...], gain: np.float32) -> NDArray[np.float32]:
    # numpy's dimensions run the other way
    return heavy_tailed(seed, name, dims[::-1]) * gain


def _gain(n_cols: int) -> np.float32:
    """Keep the variance of a product with ``n_cols`` terms; IEEE square roots are exact everywhere."""
    return np.float32(1.0 / np.sqrt(np.float32(n_cols)))
