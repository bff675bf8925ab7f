"""The error of an engine's own product where one input in 256 is large.

``python -m tests.engines.multiply ENGINE TYPE...``, in a process of its own, since engines abort.  It prints, as JSON,
to each type the squared error over that of inputs rounded in blocks of 32: about 1 where the engine rounds so, about 8
where it rounds in blocks of 256.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import c_bool, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import TYPE_CHECKING, cast

import numpy as np

import qxmix
from qxmix.engines.library import library_path
from qxmix.engines.rounding import rounded
from qxmix.quants import ENGINES, get

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_COLS, N_ROWS, N_TOKENS, LARGE = 1536, 128, 64, 60
_SIGNATURES = {
    "ggml_new_tensor_2d": (c_void_p, [c_void_p, c_int, c_int64, c_int64]),
    "ggml_get_data": (c_void_p, [c_void_p]),
    "ggml_mul_mat": (c_void_p, [c_void_p] * 3),
    "ggml_new_graph": (c_void_p, [c_void_p]),
    "ggml_build_forward_expand": (None, [c_void_p] * 2),
    "ggml_graph_compute_with_ctx": (c_int, [c_void_p, c_void_p, c_int]),
}


class InitParams(ctypes.Structure):
    """``ggml_init_params``."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


def product(
    library: ctypes.CDLL, type_id: int, packed: NDArray[np.uint8], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``packed`` (n_rows, ...) times ``x`` (n, n_cols), as (n, n_rows)."""
    context = library.ggml_init(InitParams(64 << 20, None, False))
    n_rows = len(packed)
    a = library.ggml_new_tensor_2d(context, type_id, x.shape[1], n_rows)
    b = library.ggml_new_tensor_2d(context, 0, x.shape[1], len(x))
    for tensor, values in ((a, packed), (b, x)):
        ctypes.memmove(library.ggml_get_data(tensor), values.ctypes.data, values.nbytes)
    c = library.ggml_mul_mat(context, a, b)
    graph = library.ggml_new_graph(context)
    library.ggml_build_forward_expand(graph, c)
    library.ggml_graph_compute_with_ctx(context, graph, 1)
    memory = (c_float * (len(x) * n_rows)).from_address(library.ggml_get_data(c))
    return np.frombuffer(bytes(memory), np.float32).reshape(len(x), n_rows)


def main(engine: str, names: list[str]) -> None:
    """Multiply by weights that are zero where inputs are large: those make steps coarse and add nothing."""
    library = ctypes.CDLL(str(library_path(next(e for e in ENGINES if e == engine))))
    library.ggml_init.restype, library.ggml_init.argtypes = c_void_p, [InitParams]
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((N_ROWS, N_COLS)).astype(np.float32)
    x = rng.standard_normal((N_TOKENS, N_COLS)).astype(np.float32)
    weights[:, ::256] = 0
    x[:, ::256] = LARGE
    ratios = {}
    for name in names:
        packed = np.ascontiguousarray(qxmix.quantize(weights, name))
        back = qxmix.dequantize(packed, name, n_cols=N_COLS).astype(np.float64)
        exact, fine = x.astype(np.float64) @ back.T, rounded(x, 32).astype(np.float64) @ back.T
        error = np.square(product(library, get(name).id, packed, x) - exact).sum()
        ratios[name] = cast("float", error / np.square(fine - exact).sum())
    print(json.dumps(ratios))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
