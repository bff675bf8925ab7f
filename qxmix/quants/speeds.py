"""How fast each type is encoded.  Nothing but a bar's evenness and an estimate of time hangs on it."""

from __future__ import annotations

from qxmix.quants.quant_type import QuantType

_MILLIONS_PER_SECOND = {
    "Q4_0": 87, "Q4_1": 29, "Q5_0": 57, "Q5_1": 28, "Q8_0": 989, "IQ4_NL": 50, "MXFP4": 851, "Q6_0": 76,
    "Q2_K": 29, "Q3_K": 71, "Q4_K": 26, "Q5_K": 26, "Q6_K": 56, "IQ2_XXS": 11, "IQ2_XS": 5.8, "IQ2_S": 12,
    "IQ3_XXS": 5.5, "IQ3_S": 8.4, "IQ1_S": 16, "IQ1_M": 9.8, "IQ4_XS": 63, "Q1_0": 724, "TQ1_0": 2626,
    "TQ2_0": 3325, "NVFP4": 180, "Q2_0": 1094, "IQ2_K": 10, "IQ3_K": 31, "IQ4_K": 25, "IQ5_K": 25, "IQ6_K": 18,
    "IQ2_KL": 10, "IQ2_KT": 1.7, "IQ4_KT": 0.5, "IQ2_KS": 3.2, "IQ3_KS": 26, "IQ4_KS": 23, "IQ5_KS": 26,
    "IQ4_KSS": 6.9, "IQ1_KT": 2, "IQ3_KT": 0.7,
}  # fmt: skip
"""Weights that one thread encodes with an importance, by ``python -m tests.bench.kernels`` on a processor with AVX2:
the first column of README's table.  Another processor has others, but nearly the same proportions."""
_ONLY_ROUNDED = 1000
"""Types that are not in the table (floats, Q8_KV, the ternary ones of ik_llama.cpp) only round."""


def speed(quant_type: QuantType) -> float:
    """Weights that one thread encodes in a second; an interleaved type takes as long as its base."""
    known = _MILLIONS_PER_SECOND.get(quant_type.base or quant_type.name, _ONLY_ROUNDED)
    return 1e6 * known
