"""How fast each type is encoded.  Nothing but a bar's evenness and an estimate of time hangs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qxmix.quants.quant_type import QuantType

_MILLIONS_PER_SECOND = {
    "Q4_0": 170, "Q4_1": 76, "Q5_0": 163, "Q5_1": 74, "Q8_0": 1170, "IQ4_NL": 52, "MXFP4": 962, "Q6_0": 145, "Q2_K": 53,
    "Q3_K": 101, "Q4_K": 62, "Q5_K": 62, "Q6_K": 106, "IQ2_XXS": 15, "IQ2_XS": 11, "IQ2_S": 20, "IQ3_XXS": 9,
    "IQ3_S": 14, "IQ1_S": 29, "IQ1_M": 24, "IQ4_XS": 46, "Q1_0": 1693, "TQ1_0": 2525, "TQ2_0": 2986, "NVFP4": 220,
    "Q2_0": 1631, "IQ2_K": 25, "IQ3_K": 71, "IQ4_K": 66, "IQ5_K": 68, "IQ6_K": 50, "IQ2_KL": 35, "IQ2_KT": 4.5,
    "IQ4_KT": 1.5, "IQ2_KS": 10, "IQ3_KS": 61, "IQ4_KS": 60, "IQ5_KS": 60, "IQ4_KSS": 20, "IQ1_KT": 6.1, "IQ3_KT": 2.3,
}  # fmt: skip
"""Weights that one thread encodes with an importance, by ``python -m tests.bench.kernels`` on a core of a Xeon with
AVX-512: the figures of README's table.  Another processor has others, but nearly the same proportions."""
_ONLY_ROUNDED = 1000
"""Types that are not in the table (floats, Q8_KV, the ternary ones of ik_llama.cpp) only round."""


def speed(quant_type: QuantType) -> float:
    """Weights that one thread encodes in a second; an interleaved type takes as long as its base."""
    known = _MILLIONS_PER_SECOND.get(quant_type.base or quant_type.name, _ONLY_ROUNDED)
    return 1e6 * known
