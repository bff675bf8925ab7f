"""What a rule may ask about a model and its tensors."""

from __future__ import annotations

from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.recipe.categories import name_parts
from qxmix.recipe.conditions import FactValue

MAIN_STACK = "blk"
"""What the layers of a language model are called."""


def model_facts(header: ModelHeader, *, has_imatrix: bool) -> dict[str, FactValue]:
    """The facts that are the same for every tensor.  What the model does not state is None, but 0 experts are 0.

    ``n_head`` and ``n_head_kv`` may be one per layer; llama-quantize asks layer 0.
    """
    arch = header.architecture

    def number(key: str) -> int | None:
        return header.integer(f"{arch}.{key}")

    n_head = number("attention.head_count")
    n_head_kv = number("attention.head_count_kv")
    if n_head_kv is None:
        n_head_kv = n_head
    n_tokens = header.count("tokenizer.ggml.tokens")
    return {
        "arch": arch,
        "n_layer": number("block_count") or count_layers(header.tensors),
        "n_head": n_head,
        "n_head_kv": n_head_kv,
        "n_gqa": (n_head // n_head_kv if n_head_kv else 0) if n_head is not None and n_head_kv is not None else None,
        "n_expert": number("expert_count") or 0,
        "n_embd": number("embedding_length"),
        "n_vocab": n_tokens if n_tokens is not None else number("vocab_size"),
        "tied": all(t.name != "output.weight" for t in header.tensors),
        "has_imatrix": has_imatrix,
    }


def tensor_facts(tensor: TensorInfo) -> dict[str, FactValue]:
    """The facts of one tensor; ``type`` is added by who knows the type so far."""
    return {
        "n_cols": tensor.n_cols,
        "n_rows": tensor.n_rows,
        "n_matrices": tensor.n_matrices,
        "n_dims": len(tensor.shape),
        "n_weights": tensor.n_weights,
        "source_type": tensor.type,
    }


def count_layers(tensors: tuple[TensorInfo, ...], stack: str = "") -> int:
    """The layers of a stack, or of that which a model consists of: ``blk``, and without it the longest."""
    ends: dict[str, int] = {}
    for parts in (name_parts(t.name) for t in tensors):
        if parts.layer is not None:
            ends[parts.stack] = max(ends.get(parts.stack, 0), 1 + parts.layer)
    return ends.get(stack or MAIN_STACK, 0 if stack else max(ends.values(), default=0))
