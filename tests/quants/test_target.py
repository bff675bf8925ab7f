"""Kernels beside what a process compiles with numba itself: neither takes the other's code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BESIDE = """
import sys
import numba, numpy as np
import qxmix

@numba.njit
def own(n):
    numbers, levels = np.empty(n, np.int64), np.empty(n, np.float32)
    bits, sums = np.zeros(n, np.uint8), np.zeros(n, np.float32)
    numbers[:], levels[:] = 1, 2
    return numbers.sum() + levels.sum() + bits.sum() + sums.sum() + max((1.0, 2.0)) + abs(-1.5) + np.rint(0.6)

x, columns = np.linspace(-1, 1, 1024, dtype=np.float32).reshape(2, 512), np.ones(512, np.float32)
for name in sys.argv[1:]:
    assert own(3) == 13.5
    packed = qxmix.quantize(x, name, imatrix=columns)
    own.recompile()
    assert own(3) == 13.5
    print(name, abs(qxmix.dequantize(packed, name, n_cols=512) - x).max() < 0.2)
"""


@pytest.mark.slow
def test_numba_compiles_the_same_functions_for_somebody_else(tmp_path: Path) -> None:
    """What numba found of np.empty for its own target stood in the place of that for kernels, which had no code."""
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, "Q4_0", "Q5_0"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stderr[-2000:], done.stdout) == ("", "Q4_0 True\nQ5_0 True\n")
