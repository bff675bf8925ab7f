"""Rows that ik_llama.cpp loads and cannot multiply: its kernels ask for more than whole blocks.

``llama-quantize`` writes such files, too.  Found by running them: the engine aborts (a batch of tokens through gate and
up, IQ1_BN and IQ2_BN always), or leaves the result of the product unset.  The conditions stand in
``iqk_set_kernels_kquants``, ``iqk_set_kernels_1bit`` and ``quantize_row_q8_K64_ref`` of ik_llama.cpp.
"""

from __future__ import annotations

_MULTIPLES = {"Q8_KV": 256, "Q8_KV_R8": 256, "IQ1_S_R4": 128, "IQ1_M_R4": 128}
"""Weights of which a row must be a whole multiple."""
_LEAST = {"IQ1_BN": 512, "IQ2_BN": 512}
"""Weights that a row must have at least."""


def why_not_run(type_name: str, n_cols: int) -> str:
    """Why ik_llama.cpp cannot use a tensor of this type with rows of ``n_cols`` weights; empty where it can."""
    multiple, least = _MULTIPLES.get(type_name, 1), _LEAST.get(type_name, 0)
    if n_cols % multiple:
        return f"rows of {n_cols} weights are not whole multiples of {multiple}"
    if n_cols < least:
        return f"rows of {n_cols} weights are shorter than {least}"
    return ""
