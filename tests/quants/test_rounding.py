"""The types that only round: against the gguf package, and against llama.cpp's own encoder."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest

from qxmix.quants import get
from qxmix.quants.api import dequantize, quantize

xllamacpp = pytest.importorskip("xllamacpp")


class _Init(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def llama_cpp(x: np.ndarray, name: str) -> np.ndarray:
    """The bytes that llama.cpp writes."""
    path = next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"), None)
    if path is None:
        pytest.skip("no xllamacpp library on this platform")
    library = ctypes.CDLL(str(path))
    library.ggml_init.restype = ctypes.c_void_p
    library.ggml_init.argtypes = [_Init]
    library.ggml_init(_Init(1 << 16, None, False))  # fills the table of halves
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    out = np.zeros((len(x), get(name).row_nbytes(x.shape[1])), np.uint8)
    assert chunk(get(name).id, x.ctypes.data, out.ctypes.data, 0, *x.shape, None) == out.nbytes
    return out


def weights() -> np.ndarray:
    """Heavy tails over many magnitudes, ties, zeros, rows of one magnitude, values just below a power of two."""
    rng = np.random.default_rng(3)
    x = rng.standard_t(4, (64, 1024)) * 10.0 ** rng.integers(-6, 3, (64, 1))
    x[0], x[1], x[2] = 0, np.sign(x[1]), np.round(rng.standard_normal(1024) * 4) / 4
    x[3], x[4], x[5] = 1 - 2.0**-24, 16 - 2.0**-20, x[5] * 1e-18
    return np.ascontiguousarray(x, dtype=np.float32)


@pytest.mark.parametrize("name", ["MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "Q2_0", "Q1_0"])
def test_bytes_equal_llama_cpps(name: str) -> None:
    x = weights()
    np.testing.assert_array_equal(quantize(x, name), llama_cpp(x, name))


@pytest.mark.parametrize("name", ["MXFP4", "TQ1_0", "TQ2_0"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bytes_equal_ggufs(name: str) -> None:
    x = weights()
    np.testing.assert_array_equal(quantize(x, name), gguf.quantize(x, gguf.GGMLQuantizationType[name]))


def test_nvfp4_of_the_largest_scales_is_nearer_than_llama_cpps() -> None:
    """llama.cpp takes the largest scale, 448, for all of 256 and above; the format has seven there."""
    x = np.random.default_rng(1).uniform(-2600, 2600, (32, 64)).astype(np.float32)
    ours, theirs = (dequantize(data, "NVFP4", 64) for data in (quantize(x, "NVFP4"), llama_cpp(x, "NVFP4")))
    assert np.square(ours - x).sum() < 0.99 * np.square(theirs - x).sum()


def test_mxfp4_of_the_smallest_magnitudes_keeps_them() -> None:
    """Below 2 ** -125 the reference's exponent wraps around, and all its weights become 0."""
    x = (np.random.default_rng(1).standard_normal((1, 32)) * 3e-39).astype(np.float32)
    assert not gguf.dequantize(llama_cpp(x, "MXFP4"), gguf.GGMLQuantizationType.MXFP4).any()
    y = dequantize(quantize(x, "MXFP4"), "MXFP4", 32)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert np.square(a - b).sum() < 0.15 * np.square(a).sum()


def test_one_bit_decodes_to_the_mean_magnitude() -> None:
    x = np.random.default_rng(2).standard_normal((3, 256)).astype(np.float32)
    mean = np.abs(x).reshape(3, 2, 128).mean(axis=2, keepdims=True)
    expected = np.where(x.reshape(3, 2, 128) >= 0, mean, -mean).reshape(3, 256)
    np.testing.assert_allclose(dequantize(quantize(x, "Q1_0"), "Q1_0", 256), expected, rtol=1e-3)


def test_two_bit_field_decodes_all_four_values() -> None:
    data = np.zeros((1, 18), np.uint8)
    data[0, :2], data[0, 2:] = np.array([2.0], np.float16).view(np.uint8), 0b11_10_01_00
    np.testing.assert_array_equal(dequantize(data, "Q2_0", 64)[0], np.tile([-2.0, 0.0, 2.0, 4.0], 16))
