"""How fast each type was encoded on one thread of a processor with AVX2; see :mod:`qxmix.quants.speeds`.

Written by ``python -m tests.bench.report``, from what ``tests.bench.kernels`` and ``tests.bench.feedback_speed`` have
measured; do not edit.
"""

from __future__ import annotations

MEASURED: dict[str, tuple[float, float | None, float | None, float | None]] = {
    "F16": (7140.0, 6650.0, None, None),
    "BF16": (5830.0, 6060.0, None, None),
    "Q4_0": (95.7, 2210.0, 15.2, 29.4),
    "Q4_1": (30.6, 2070.0, None, 18.4),
    "Q5_0": (119.0, 1610.0, 17.8, 40.4),
    "Q5_1": (31.3, 1460.0, None, 18.6),
    "Q8_0": (1050.0, 1030.0, None, 56.9),
    "IQ4_NL": (59.9, 75.0, 8.03, 30.4),
    "MXFP4": (756.0, 755.0, None, None),
    "Q6_0": (113.0, 61.0, 12.5, 36.4),
    "Q2_K": (34.7, 90.6, None, 17.1),
    "Q3_K": (67.9, 111.0, 11.5, 29.8),
    "Q4_K": (29.1, 71.7, None, 18.5),
    "Q5_K": (28.2, 86.5, None, 15.3),
    "Q6_K": (66.8, 70.8, 7.38, 36.3),
    "IQ2_XXS": (11.9, None, None, 7.03),
    "IQ2_XS": (8.53, None, None, 4.78),
    "IQ2_S": (13.5, 15.4, None, 8.19),
    "IQ3_XXS": (7.39, 6.21, None, 4.38),
    "IQ3_S": (10.8, 11.9, None, 5.64),
    "IQ1_S": (22.0, None, None, 11.0),
    "IQ1_M": (15.2, 14.9, None, 8.87),
    "IQ4_XS": (51.7, 58.4, 6.4, 33.0),
    "Q1_0": (805.0, 821.0, None, None),
    "TQ1_0": (2310.0, 2330.0, None, None),
    "TQ2_0": (2930.0, 3070.0, None, None),
    "NVFP4": (166.0, 170.0, None, None),
    "Q2_0": (1280.0, 1280.0, None, None),
    "IQ1_BN": (1250.0, 1240.0, None, None),
    "IQ2_BN": (1530.0, 1420.0, None, None),
    "IQ2_K": (9.83, 9.82, None, 6.69),
    "IQ3_K": (33.2, 36.9, None, 17.2),
    "IQ4_K": (28.8, 28.8, None, 13.5),
    "IQ5_K": (26.0, 27.5, None, 13.8),
    "IQ6_K": (20.5, 21.8, None, 12.2),
    "IQ4_KS": (26.5, 28.6, None, 16.3),
    "IQ2_KS": (3.66, 3.81, None, 2.53),
    "IQ4_KSS": (7.33, 6.97, None, None),
    "Q8_KV": (3930.0, 3970.0, None, None),
    "IQ5_KS": (29.8, 34.6, None, 16.9),
    "IQ2_KT": (1.74, 1.46, None, 0.77),
    "IQ3_KT": (0.951, 0.868, None, 0.45),
    "IQ4_KT": (0.644, 0.833, None, 0.42),
    "IQ3_KS": (30.0, 33.4, None, 15.6),
    "IQ2_KL": (11.2, 8.97, None, None),
    "IQ1_KT": (2.17, 2.47, None, 1.15),
}
"""Millions of weights per second with an importance, without one, by the exhaustive search, with error feedback."""
