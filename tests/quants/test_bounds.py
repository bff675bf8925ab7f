"""No kernel reads or writes outside of its arrays; and first: that such an access would be found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qxmix.quants import get
from qxmix.quants.api import quantize
from tests.bench.peers import peers
from tests.quants.bounds.kernels import TYPES, factories_of
from tests.quants.bounds.planted import WAYS

SWEPT = (
    "F32", "F16", "BF16", "Q5_1", "Q5_0", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4", "Q4_K", "Q6_K", "IQ3_XXS", "IQ1_S",
    "IQ5_K", "IQ2_KS", "IQ2_KL", "IQ1_KT", "Q1_0", "TQ1_0", "TQ2_0", "Q2_0", "IQ1_BN", "IQ2_BN", "Q8_KV", "Q8_K_R8",
    "Q5_0_R4", "Q4_K_R4", "IQ4_K_R4", "IQ2_S_R4", "IQ1_S_R4",
)  # fmt: skip
"""A few of each family: what makes kernels for several types is run by one of them."""

ROOT = Path(__file__).parents[2]


def run_module(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", f"tests.quants.bounds.{name}", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_an_overrun_is_found_by_each_way_of_access(tmp_path: Path) -> None:
    """The cache is warm from a run without checks, which must not be what the run with checks finds."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run_module("planted", "within", NUMBA_BOUNDSCHECK="0", **cache).stdout == "".join(
        f"{way} ok ok\n" for way in WAYS
    )
    assert run_module("planted", NUMBA_BOUNDSCHECK="1", **cache).stdout == "".join(
        f"{way} ok ok IndexError IndexError IndexError {'IndexError' if way == 'gather' else '-'}\n" for way in WAYS
    )


@pytest.mark.slow
def test_no_codec_leaves_its_arrays() -> None:
    done = run_module("sweep", *SWEPT, NUMBA_BOUNDSCHECK="1", NUMBA_OPT="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SWEPT)


def test_the_types_swept_have_what_the_others_have() -> None:
    assert {f for t in TYPES for f in factories_of(t)} - {f for t in SWEPT for f in factories_of(t)} == set()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_tiny_weight_among_zeros_gets_the_engines_bytes(weighted: bool) -> None:
    """Of a block maximum below 4.9e-38 the reciprocals of trial scales are infinite, which IQ3_S alone takes on.

    Below 2e-44 the engine's own scale vanishes, and it stores what memory held.
    """
    engine = peers(get("IQ3_S")).get("ik_llama.cpp")
    if engine is None:
        pytest.skip("ik_llama_cpp is not installed")
    rows = np.zeros((44, 256), np.float32)
    rows[np.arange(44), np.arange(44) % 32] = 10.0 ** -np.arange(0, 44)
    imatrix = np.ones(256, np.float32) if weighted else None
    expected = np.zeros((44, get("IQ3_S").row_nbytes(256)), np.uint8)
    engine(rows, imatrix, expected)
    np.testing.assert_array_equal(quantize(rows, "IQ3_S", imatrix), expected)
