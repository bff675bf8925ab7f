"""A tensor inside ik_llama.cpp: where its facts stand in the engine's struct, and its data as arrays.

``ggml_tensor`` (``ggml.h`` of ik_llama.cpp), offsets in bytes::

    0 type i32 | 4 backend i32 | 8 buffer ptr | 16 ne 4 x i64 | 48 nb 4 x u64 | 80 op i32 | 84 op_params 64 |
    148 flags i32 | 152 grad ptr | 160 src 10 x ptr | 240 view_src ptr | 248 view_offs u64 | 256 data ptr | 264 name 64

A version that lays it out otherwise is found out by asking the engine for the same facts.
"""

from __future__ import annotations

import ctypes
from ctypes import CDLL, c_char, c_int32, c_int64, c_size_t, c_void_p

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.library import PACKAGES
from qxmix.errors import RunError

F32, I32 = 0, 26
"""Ids of the types of activations and of expert numbers."""


class TensorStruct(ctypes.Structure):
    """``ggml_tensor``."""

    _fields_ = (
        ("type", c_int32),
        ("backend", c_int32),
        ("buffer", c_void_p),
        ("ne", c_int64 * 4),
        ("nb", c_size_t * 4),
        ("op", c_int32),
        ("op_params", c_int32 * 16),
        ("flags", c_int32),
        ("grad", c_void_p),
        ("src", c_void_p * 10),
        ("view_src", c_void_p),
        ("view_offs", c_size_t),
        ("data", c_void_p),
        ("name", c_char * 64),
    )


def check_layout(library: CDLL, address: int) -> None:
    """Insist that the tensor at ``address`` reads as the engine says.

    Raises:
        RunError: this version of the engine has another layout.

    """
    t = TensorStruct.from_address(address)
    if (t.ne[3] * t.nb[3], t.name) != (library.ggml_nbytes(address), library.ggml_get_name(address)):
        package = PACKAGES["ik_llama.cpp"][1]
        msg = f"this version of ik_llama.cpp lays out its tensors in an unknown way; install another of {package}"
        raise RunError(msg)


def array_of(tensor: TensorStruct) -> NDArray[np.float32] | NDArray[np.int32]:
    """The data of a float32 or int32 tensor, dimensions slowest first, in the engine's own memory.

    Raises:
        RunError: it is of another type.

    """
    if tensor.type not in {F32, I32}:
        msg = f"the engine keeps {tensor.name.decode(errors='replace')} as type {tensor.type}; float32 was expected"
        raise RunError(msg)
    shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
    n_bytes = 4 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    memory = (c_char * n_bytes).from_address(tensor.data)
    dtype = np.float32 if tensor.type == F32 else np.int32
    return np.ndarray(shape, dtype, memory, strides=strides)
