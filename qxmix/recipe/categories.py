"""What a tensor does, told from its name: the categories of llama.cpp's ``tensor_get_category``."""

from __future__ import annotations

import re
from functools import lru_cache

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


@lru_cache(maxsize=65536)
def category_of(name: str) -> str:
    """The category of a tensor; ``ffn_gate`` holds ``ffn_gate_up_exps``, ``other`` the low-rank parts of MLA."""
    exact = _EXACT.get(name)
    return exact or next((category for part, category in _CONTAINS if part in name), "other")


@lru_cache(maxsize=65536)
def layer_of(name: str) -> int | None:
    """The ``N`` of a name that starts with ``blk.N.``, else None."""
    found = _BLOCK.match(name)
    return int(found[1]) if found else None


def part_of(name: str) -> str:
    """The name without its layer and without ``.weight``: ``ffn_down_exps``."""
    return ".".join(part for part in name.removesuffix(".weight").split(".") if not part.isdigit()).removeprefix("blk.")
