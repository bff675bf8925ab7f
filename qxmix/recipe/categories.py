"""What a tensor's name tells: its category (llama.cpp's ``tensor_get_category``), its layer, its part of the layer."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_EXACT = {
    "output.weight": "output",
    "token_embd.weight": "token_embd",
    "per_layer_token_embd.weight": "token_embd",
}
_CONTAINS = (
    ("attn_qkv.weight", "attn_qkv"),
    ("attn_kv_b.weight", "attn_kv_b"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)

CATEGORIES = ("output", "token_embd", *(category for _, category in _CONTAINS), "other")
"""In the order in which they are tried."""

_BLOCK = re.compile(r"blk\.(\d{1,6})\.")
_STACKED = re.compile(
    r"((?:\w+\.)*?(?:\w*blk|\w*blocks?|\w*layers?|\w*refiner|mm|mlp|peg|conv[12]d|convnext|posnet|deepstack|neck))"
    r"\.(\d{1,6})(?:\.(.*))?"
)
"""A stack of layers, the number of one, and its part.  The words are those of gguf's tensor names (text, T5, vision,
audio, projectors) and of the diffusion models that are converted as they are (``double_blocks.3.``, ``layers.3.``)."""


class NameParts(NamedTuple):
    """A tensor's name taken apart."""

    part: str
    """What it is in its layer: ``ffn_down_exps``, ``enc.ffn_down``, ``double_blocks.img_mlp.0``; outside of layers the
    whole name.  Without ``.weight``."""
    stack: str = ""
    """What its layers are called: ``blk``, ``enc.blk``, ``double_blocks``; empty outside of layers."""
    layer: int | None = None
    """Its number in the stack."""


@lru_cache(maxsize=65536)
def category_of(name: str) -> str:
    """The category of a tensor; ``ffn_gate`` holds ``ffn_gate_up_exps``, ``other`` the low-rank parts of MLA."""
    exact = _EXACT.get(name)
    return exact or next((category for part, category in _CONTAINS if part in name), "other")


@lru_cache(maxsize=65536)
def name_parts(name: str) -> NameParts:
    """``enc.blk.3.ffn_up.weight`` to ``enc.ffn_up`` of layer 3 of ``enc.blk``."""
    stem = name.removesuffix(".weight")
    found = _STACKED.fullmatch(stem)
    if found is None:
        return NameParts(stem)
    stack, layer, rest = found[1], int(found[2]), found[3]
    # The stack of a language model needs no mention.
    shown = stack[:-3].rstrip(".") if stack == "blk" or stack.endswith(".blk") else stack
    return NameParts(".".join(filter(None, (shown, rest))), stack, layer)


def layer_of(name: str) -> int | None:
    """The number of the layer that a tensor is in, of whatever stack; None outside of layers."""
    return name_parts(name).layer


def part_of(name: str) -> str:
    """The name without its layer and without ``.weight``: ``ffn_down_exps``."""
    return name_parts(name).part


@lru_cache(maxsize=65536)
def block_of(name: str) -> int | None:
    """The ``N`` of a name that starts with ``blk.N.``, else None: the only layers that the engines' mixes know of."""
    found = _BLOCK.match(name)
    return int(found[1]) if found else None
