"""How the engines round what a matrix is multiplied with: to 8 bits, in blocks of 32 or 256 values.

In a block of 256 one large value makes the steps of all others coarse, and what goes into ``ffn_down`` has many such.
Found by multiplying rows with one large value per 256 in the engines themselves, 64 tokens and one at a time (wheels of
ik_llama.cpp 0.1.5 and llama.cpp of October 2026, AVX2): the squared error is eight times as large.
"""

from __future__ import annotations

from qxmix.quants import get
from qxmix.quants.quant_type import Engine

INPUT_BLOCKS = (32, 256)
"""Values that share a scale, of what is multiplied with a quantized matrix."""
_FINE_SUPER_BLOCKS = ("Q4_K", "Q5_K", "Q6_K")
"""With blocks of 256 weights and inputs in blocks of 32, in ik_llama.cpp alone."""


def input_block(type_name: str, engine: Engine) -> int | None:
    """Which of ``INPUT_BLOCKS`` an engine uses for a type; None where inputs are not rounded to 8 bits."""
    quant_type = get(type_name)
    plain = get(quant_type.base) if quant_type.base else quant_type
    if plain.block_size == 1:
        return None
    fine = engine == "ik_llama.cpp" and plain.name in _FINE_SUPER_BLOCKS
    # Types with row scales in front of small blocks are few-bit relatives of those with 256.
    return 32 if fine or (plain.block_size < 256 and not plain.row_meta_nbytes) else 256  # noqa: PLR2004
