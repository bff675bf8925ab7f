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
"""Weights that one thread encodes with an importance, by ``python -m tests.bench.kernels`` on a processor with AVX2.
Another processor has others, and later kernels are up to twice as fast (Q5_0); whole applies with feedback
took what these tell within a fifth."""
_WITH_FEEDBACK = {
    "Q4_0": 0.52, "Q4_1": 0.73, "Q5_0": 0.45, "Q5_1": 0.72, "Q8_0": 0.06, "IQ4_NL": 0.53, "Q6_0": 0.44, "Q2_K": 0.72,
    "Q3_K": 0.52, "Q4_K": 0.76, "Q5_K": 0.71, "Q6_K": 0.6, "IQ2_XXS": 0.71, "IQ2_XS": 0.63, "IQ2_S": 0.51,
    "IQ3_XXS": 0.66, "IQ3_S": 0.59, "IQ1_S": 0.55, "IQ1_M": 0.62, "IQ4_XS": 0.58, "IQ2_K": 0.72, "IQ3_K": 0.59,
    "IQ4_K": 0.55, "IQ5_K": 0.52, "IQ6_K": 0.63, "IQ4_KS": 0.64, "IQ2_KS": 0.74, "IQ5_KS": 0.59, "IQ3_KS": 0.58,
    "IQ1_KT": 0.6, "IQ2_KT": 0.6, "IQ3_KT": 0.65, "IQ4_KT": 0.71,
}  # fmt: skip
"""Times that speed with error feedback, by ``python -m tests.bench.feedback_speed``: the last column of README's."""
_FED = 0.6
"""The same of a type that is not in that table."""
_ONLY_ROUNDED = 1000
"""Types that are not in the table (floats, Q8_KV, the ternary ones of ik_llama.cpp) only round."""


def speed(quant_type: QuantType, *, feedback: bool = False) -> float:
    """Weights that one thread encodes in a second; an interleaved type takes as long as its base."""
    name = quant_type.base or quant_type.name
    known = 1e6 * _MILLIONS_PER_SECOND.get(name, _ONLY_ROUNDED)
    return known * _WITH_FEEDBACK.get(name, _FED) if feedback else known
