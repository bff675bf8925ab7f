"""The decoders of ik_llama.cpp's own types against those in its wheel; the ``gguf`` package does not know them."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from qxmix.quants import QUANT_TYPES, get
from qxmix.quants.api import dequantize

WITHOUT = {"MXFP4_R8", "BF16_R16"}
"""Types without a decoder in the wheel; ``test_interleaved`` holds them to their base's."""
SCALE_APART = {"IQ1_BN": np.float16, "IQ2_BN": np.float32}
"""Types whose engine decoder expects the blocks behind the scale of the row, and leaves that out."""
NAMES = [t.name for t in QUANT_TYPES if t.codec and t.engines == ("ik_llama.cpp",) and t.name not in WITHOUT]


class _Init(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    """ik_llama.cpp's library, its table of halves filled."""
    spec = importlib.util.find_spec("ik_llama_cpp")
    if spec is None or spec.origin is None:
        pytest.skip("ik-llama-cpp-python is not installed")
    (path,) = (Path(spec.origin).parent / "lib").glob("libggml.*")
    found = ctypes.CDLL(str(path))
    found.ggml_init.restype = ctypes.c_void_p
    found.ggml_init.argtypes = [_Init]
    found.ggml_init(_Init(1 << 20, None, False))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_decoder_equals_the_engines(library: ctypes.CDLL, name: str) -> None:
    """On random bytes: every field takes every value, and a scale may be infinite or NaN."""
    n_cols, rng = 3 * 256, np.random.default_rng(3)
    quant_type = get(name)
    data = rng.integers(0, 256, (64, quant_type.row_nbytes(n_cols)), dtype=np.uint8)
    expected = np.zeros((64, n_cols), np.float32)
    decode = getattr(library, "dequantize_row_" + name.lower().replace("_kv", "_KV"))
    decode.argtypes, decode.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    skipped = quant_type.row_meta_nbytes if name in SCALE_APART else 0
    for row in range(0, len(data), quant_type.row_group):
        decode(data[row].ctypes.data + skipped, expected[row].ctypes.data, n_cols * quant_type.row_group)
    if name in SCALE_APART:
        with np.errstate(invalid="ignore"):
            expected *= data[:, :skipped].copy().view(SCALE_APART[name]).astype(np.float32)
    if name == "IQ6_K":  # its levels are a cubic, which the wheel's compiler evaluates with fused multiply-adds
        np.testing.assert_allclose(dequantize(data, name, n_cols), expected, rtol=1e-4)
    else:
        np.testing.assert_array_equal(dequantize(data, name, n_cols), expected)
