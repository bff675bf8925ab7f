"""What llama.cpp's own library chooses for a model: ``llama_model_quantize`` with ``dry_run``, in a process of its own.

``python tests/planning/llama_library.py FOLDER MODEL FTYPE,FTYPE 0|1`` prints the library's log of each mix.  The
library is that of the wheel llama-cpp-py-sync, which comes compiled and with nothing but the library itself.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.planning.older_glibc import adapt

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Params(ctypes.Structure):
    """``llama_model_quantize_params`` of llama.h, b11739."""

    _fields_ = (
        ("nthread", ctypes.c_int32), ("ftype", ctypes.c_int), ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool), ("imatrix", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p), ("tt_overrides", ctypes.c_void_p), ("prune_layers", ctypes.c_void_p),
        ("max_buf_size", ctypes.c_size_t),
    )  # fmt: skip


class _Importance(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t))


_PARTS = ("libggml-base.so.0", "libggml-cpu.so.0", "libggml-rpc.so.0", "libggml.so.0", "libllama.so.0")
"""Each needs those before it."""
_GLIBC = (2, 38)


@cache
def _loadable() -> Path | None:
    """The folder with libraries that this machine's glibc loads."""
    folder = library()
    version = tuple(map(int, (platform.libc_ver()[1] or "0").split(".")))
    if folder is None or version >= _GLIBC:
        return folder
    copies = tempfile.TemporaryDirectory()
    atexit.register(copies.cleanup)
    for name in _PARTS:
        adapt(folder / name, Path(copies.name) / name)
    return Path(copies.name)


@cache
def library() -> Path | None:
    """The folder of the wheel, or None where it is not installed."""
    spec = importlib.util.find_spec("llama_cpp_py_sync")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / _PARTS[-1]).exists() else None


_LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[[^\]]*\], type = +(\w+),(.*)")


def library_types(model: Path, ftypes: Sequence[int], *, imatrix: bool = False) -> dict[int, dict[str, str]]:
    """Upper-case type of each tensor for each mix; empty for a mix that the library refuses.

    Args:
        model: A GGUF file.
        ftypes: Values of ``general.file_type``.
        imatrix: Whether there is an importance matrix, with an entry for a tensor that the model lacks.

    """
    folder = _loadable()
    assert folder is not None
    command = [sys.executable, __file__, str(folder), str(model), ",".join(map(str, ftypes)), str(int(imatrix))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    parts = re.split(r"^== (\d+) (\d+)$", done.stdout, flags=re.MULTILINE)
    assert len(parts) == 3 * len(ftypes) + 1, (done.stdout + done.stderr)[-2000:]
    return {int(f): _types(text) if code == "0" else {} for text, f, code in zip(*(iter(parts[:-1]),) * 3, strict=True)}


def _types(text: str) -> dict[str, str]:
    found = {}
    for row in text.split("\n"):
        if named := _LINE.search(row):
            converted = re.search(r"-> .*\((\w+)\)", named[3])
            found[named[1]] = (converted[1] if converted else named[2]).upper()
    return found


def _main() -> int:
    folder, model, ftypes, with_imatrix = sys.argv[1:]
    for name in _PARTS[:-1]:
        ctypes.CDLL(str(Path(folder) / name), mode=ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(str(Path(folder) / _PARTS[-1]))
    log_type = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

    def log(_level: int, text: bytes, _data: int) -> None:
        sys.stdout.write(text.decode("utf-8", "replace"))

    kept = log_type(log)
    llama.llama_log_set(kept, None)
    llama.llama_model_quantize_default_params.restype = _Params
    llama.llama_backend_init()
    one = (ctypes.c_float * 1)(1.0)
    matrix = (_Importance * 2)(_Importance(b"none", one, 1), _Importance(None, None, 0))
    for ftype in map(int, ftypes.split(",")):
        params = llama.llama_model_quantize_default_params()
        params.ftype, params.nthread, params.dry_run = ftype, 1, True
        params.imatrix = ctypes.cast(matrix, ctypes.c_void_p) if with_imatrix == "1" else None
        code = llama.llama_model_quantize(model.encode(), (model + ".out").encode(), ctypes.byref(params))
        sys.stdout.write(f"\n== {ftype} {code}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
