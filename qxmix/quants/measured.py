"""How fast each type was encoded on one thread of a processor with AVX2; see :mod:`qxmix.quants.speeds`.

Written by ``python -m tests.bench.report``, from what ``tests.bench.kernels`` and ``tests.bench.feedback_speed`` have
measured; do not edit.
"""

from __future__ import annotations

MEASURED: dict[str, tuple[float, float | None, float | None, float | None]] = {
    "F16": (8150.0, 7400.0, None, None),
    "BF16": (4980.0, 5060.0, None, None),
    "Q4_0": (94.5, 1990.0, 14.8, 65.0),
    "Q4_1": (31.9, 1830.0, None, 24.9),
    "Q5_0": (104.0, 1680.0, 13.5, 58.9),
    "Q5_1": (31.7, 1330.0, None, 24.2),
    "Q8_0": (1060.0, 1070.0, None, 112.0),
    "IQ4_NL": (55.2, 60.1, 6.53, 38.1),
    "MXFP4": (721.0, 704.0, None, None),
    "Q6_0": (96.8, 62.9, 9.69, 54.4),
    "Q2_K": (31.1, 72.0, None, 19.6),
    "Q3_K": (70.7, 120.0, 11.7, 47.5),
    "Q4_K": (28.6, 75.5, None, 19.9),
    "Q5_K": (27.5, 91.5, None, 19.4),
    "Q6_K": (72.7, 71.0, 8.97, 46.0),
    "IQ2_XXS": (16.7, None, None, 7.43),
    "IQ2_XS": (9.19, None, None, 5.27),
    "IQ2_S": (14.0, 14.6, None, 8.63),
    "IQ3_XXS": (6.48, 5.96, None, 4.46),
    "IQ3_S": (10.4, 9.66, None, 6.61),
    "IQ1_S": (19.0, None, None, 10.4),
    "IQ1_M": (12.7, 16.0, None, 8.0),
    "IQ4_XS": (55.9, 56.0, 6.45, 38.2),
    "Q1_0": (765.0, 824.0, None, None),
    "TQ1_0": (2210.0, 2220.0, None, None),
    "TQ2_0": (3160.0, 3140.0, None, None),
    "NVFP4": (150.0, 149.0, None, None),
    "Q2_0": (1340.0, 1360.0, None, None),
    "IQ1_BN": (1150.0, 1270.0, None, None),
    "IQ2_BN": (1510.0, 1510.0, None, None),
    "IQ2_K": (12.3, 12.2, None, 7.43),
    "IQ3_K": (34.6, 43.8, None, 25.1),
    "IQ4_K": (27.4, 27.9, None, 21.5),
    "IQ5_K": (30.1, 26.1, None, 19.3),
    "IQ6_K": (24.1, 21.8, None, 17.1),
    "IQ4_KS": (28.5, 35.2, None, 22.8),
    "IQ2_KS": (3.81, 3.57, None, 2.99),
    "IQ4_KSS": (7.59, 7.97, None, None),
    "Q8_KV": (5160.0, 4570.0, None, None),
    "IQ5_KS": (28.3, 42.7, None, 25.4),
    "IQ2_KT": (5.06, 4.59, None, 2.14),
    "IQ3_KT": (1.69, 1.7, None, 1.14),
    "IQ4_KT": (0.901, 0.904, None, 0.7),
    "IQ3_KS": (30.8, 32.9, None, 24.7),
    "IQ2_KL": (11.3, 11.1, None, None),
    "IQ1_KT": (4.57, 5.0, None, 2.7),
}
"""Millions of weights per second with an importance, without one, by the exhaustive search, with error feedback."""
