"""The C encoders inside the engines' wheels, called in this process: what ours are measured against."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qxmix.quants import QuantType

Floats = NDArray[np.float32]
Encode = Callable[[Floats, Floats | None, NDArray[np.uint8]], None]
"""Encodes (n_rows, n_cols) with importances into (n_rows, row_nbytes)."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@cache
def _library(package: str, pattern: str) -> ctypes.CDLL | None:
    """The shared library of a wheel, its half-precision table filled; None where the wheel is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob(pattern))
    if not found:
        return None
    library = ctypes.CDLL(str(found[0]))
    # Without ggml_init the fp16 table is all zeros, and types that round again with the stored scale skip that.
    library.ggml_init.restype = ctypes.c_void_p
    library.ggml_init.argtypes = [_InitParams]
    library.ggml_init(_InitParams(1 << 20, None, False))
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_blck_size.argtypes = [ctypes.c_int]
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    # The last argument is ik_llama.cpp's options; llama.cpp's function does not look at it.
    function.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 2]
    return library


def _ggml(library: ctypes.CDLL, quant_type: QuantType) -> Encode | None:
    if not library.ggml_blck_size(quant_type.id):  # a type younger than the wheel, which would divide by that
        return None
    library.ggml_quantize_init(quant_type.id)

    def encode(x: Floats, imatrix: Floats | None, out: NDArray[np.uint8]) -> None:
        importance = None if imatrix is None else imatrix.ctypes.data
        n_rows, n_cols = x.shape
        library.ggml_quantize_chunk(quant_type.id, x.ctypes.data, out.ctypes.data, 0, n_rows, n_cols, importance, None)

    return encode


def _libgguf(quant_type: QuantType) -> Encode | None:
    if importlib.util.find_spec("libgguf") is None:
        return None
    import libgguf  # noqa: PLC0415 - optional

    try:
        libgguf.quantize_rows(np.ones((1, 256), dtype=np.float32), quant_type.id, np.ones(256, dtype=np.float32))
    except ValueError:  # a type it does not have
        return None

    def encode(x: Floats, imatrix: Floats | None, out: NDArray[np.uint8]) -> None:
        out[:] = libgguf.quantize_rows(x, quant_type.id, imatrix).reshape(out.shape)

    return encode


def peers(quant_type: QuantType) -> dict[str, Encode]:
    """The installed peers that encode a type, by name."""
    found: dict[str, Encode | None] = {}
    ik = _library("ik_llama_cpp", "lib/libggml.so")
    if ik is not None and "ik_llama.cpp" in quant_type.engines:
        found["ik_llama.cpp"] = _ggml(ik, quant_type)
    ml = _library("xllamacpp", "xllamacpp*.so")
    if ml is not None and "llama.cpp" in quant_type.engines:
        found["llama.cpp"] = _ggml(ml, quant_type)
        found["libgguf"] = _libgguf(quant_type)
    return {name: encode for name, encode in found.items() if encode is not None}
