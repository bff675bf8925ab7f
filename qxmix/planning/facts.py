"""What a rule may ask about a model and its tensors."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qxmix.recipe.categories import name_parts

if TYPE_CHECKING:
    from qxmix.container.model import MetadataField, ModelHeader, TensorInfo
    from qxmix.recipe.conditions import FactValue

MAIN_STACK = "blk"
"""What the layers of a language model are called."""

_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
"""GGUF's ids of integer types and how ``struct`` reads them."""


def model_facts(header: ModelHeader, *, has_imatrix: bool) -> dict[str, FactValue]:
    """The facts that are the same for every tensor.  What the model does not state is None, but 0 experts are 0.

    ``n_head`` and ``n_head_kv`` may be one per layer; llama-quantize asks layer 0.
    """
    fields = {f.key: f for f in header.metadata}
    arch = header.architecture

    def number(key: str) -> int | None:
        return _first_number(fields.get(f"{arch}.{key}"))

    n_head = number("attention.head_count")
    n_head_kv = number("attention.head_count_kv")
    if n_head_kv is None:
        n_head_kv = n_head
    tokens = fields.get("tokenizer.ggml.tokens")
    return {
        "arch": arch,
        "n_layer": number("block_count") or count_layers(header.tensors),
        "n_head": n_head,
        "n_head_kv": n_head_kv,
        "n_gqa": (n_head // n_head_kv if n_head_kv else 0) if n_head is not None and n_head_kv is not None else None,
        "n_expert": number("expert_count") or 0,
        "n_embd": number("embedding_length"),
        "n_vocab": tokens.array[1] if tokens is not None and tokens.array else number("vocab_size"),
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


def _first_number(field: MetadataField | None) -> int | None:
    """An integer, or the first of an array of them."""
    if field is None:
        return None
    if isinstance(field.value, int) and not isinstance(field.value, bool):
        return field.value
    if field.array is None or field.array[0] not in _INTEGERS or field.array[1] == 0:
        return None
    # key length u64 | key | value type u32 | element type u32 | count u64 | elements
    start = 8 + len(field.key.encode()) + 4 + 4 + 8
    found: int = struct.unpack_from(_INTEGERS[field.array[0]], field.raw, start)[0]
    return found


def count_layers(tensors: tuple[TensorInfo, ...], stack: str = "") -> int:
    """The layers of a stack, or of that which a model consists of: ``blk``, and without it the longest."""
    ends: dict[str, int] = {}
    for parts in (name_parts(t.name) for t in tensors):
        if parts.layer is not None:
            ends[parts.stack] = max(ends.get(parts.stack, 0), 1 + parts.layer)
    return ends.get(stack or MAIN_STACK, 0 if stack else max(ends.values(), default=0))
