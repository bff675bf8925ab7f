"""How fast each type was encoded on one thread of a processor with AVX2; see :mod:`qxmix.quants.speeds`.

Written by ``python -m tests.bench.report``, from what ``tests.bench.kernels`` and ``tests.bench.feedback_speed`` have
measured; do not edit.
"""

from __future__ import annotations

MEASURED: dict[str, tuple[float, float | None, float | None, float | None]] = {
    "F16": (7140.0, 6650.0, None, None),
    "BF16": (5830.0, 6060.0, None, None),
    "Q4_0": (95.7, 2210.0, 15.2, 65.0),
    "Q4_1": (30.6, 2070.0, None, 24.9),
    "Q5_0": (119.0, 1610.0, 17.8, 58.9),
    "Q5_1": (31.3, 1460.0, None, 24.2),
    "Q8_0": (1050.0, 1030.0, None, 112.0),
    "IQ4_NL": (59.9, 75.0, 8.03, 38.1),
    "MXFP4": (756.0, 755.0, None, None),
    "Q6_0": (113.0, 61.0, 12.5, 54.4),
    "Q2_K": (34.7, 90.6, None, 19.6),
    "Q3_K": (67.9, 111.0, 11.5, 47.5),
    "Q4_K": (29.1, 71.7, None, 19.9),
    "Q5_K": (28.2, 86.5, None, 19.4),
    "Q6_K": (66.8, 70.8, 7.38, 46.0),
    "IQ2_XXS": (11.9, None, None, 7.43),
    "IQ2_XS": (8.53, None, None, 5.27),
    "IQ2_S": (13.5, 15.4, None, 8.63),
    "IQ3_XXS": (7.39, 6.21, None, 4.46),
    "IQ3_S": (10.8, 11.9, None, 6.61),
    "IQ1_S": (22.0, None, None, 10.4),
    "IQ1_M": (15.2, 14.9, None, 8.0),
    "IQ4_XS": (51.7, 58.4, 6.4, 38.2),
    "Q1_0": (805.0, 821.0, None, None),
    "TQ1_0": (2310.0, 2330.0, None, None),
    "TQ2_0": (2930.0, 3070.0, None, None),
    "NVFP4": (166.0, 170.0, None, None),
    "Q2_0": (1280.0, 1280.0, None, None),
    "IQ1_BN": (1250.0, 1240.0, None, None),
    "IQ2_BN": (1530.0, 1420.0, None, None),
    "IQ2_K": (9.83, 9.82, None, 7.43),
    "IQ3_K": (33.2, 36.9, None, 25.1),
    "IQ4_K": (28.8, 28.8, None, 21.5),
    "IQ5_K": (26.0, 27.5, None, 19.3),
    "IQ6_K": (20.5, 21.8, None, 17.1),
    "IQ4_KS": (26.5, 28.6, None, 22.8),
    "IQ2_KS": (3.66, 3.81, None, 2.99),
    "IQ4_KSS": (7.33, 6.97, None, None),
    "Q8_KV": (3930.0, 3970.0, None, None),
    "IQ5_KS": (29.8, 34.6, None, 25.4),
    "IQ2_KT": (4.54, 4.12, None, 2.14),
    "IQ3_KT": (1.82, 1.85, None, 1.14),
    "IQ4_KT": (0.857, 0.862, None, 0.7),
    "IQ3_KS": (30.0, 33.4, None, 24.7),
    "IQ2_KL": (11.2, 8.97, None, None),
    "IQ1_KT": (4.16, 4.55, None, 2.7),
}
"""Millions of weights per second with an importance, without one, by the exhaustive search, with error feedback."""
