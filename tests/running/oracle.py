"""What an engine says of its caches when it loads a model: run as a process of its own.

python -m tests.running.oracle ENGINE MODEL N_CTX TYPE N_PARALLEL [MLA]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from ctypes import c_bool, c_int32, c_uint32
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxmix.quants import get

if TYPE_CHECKING:
    from qxmix.quants import Engine

ROOT = Path(__file__).parents[2]
_AFTER = re.compile(r"sched_reserve:|KV self size")
_SAID = re.compile(r"(?:KV|RS) buffer size = +(\d+\.\d\d) MiB")


def said(engine: Engine, model: Path, n_ctx: int, kv_type: str, n_parallel: int, mla: int | None = None) -> list[str]:
    """The sizes of the caches in MiB, as the engine prints them; what becomes of it afterwards does not matter.

    ``mla`` is ik_llama.cpp's option of that name; None leaves it alone.
    """
    arguments = [engine, str(model), str(n_ctx), kv_type, str(n_parallel), *([] if mla is None else [str(mla)])]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.running.oracle", *arguments],
        cwd=ROOT, env={**os.environ, "GGML_NO_BACKTRACE": "1"}, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    found: list[str] = []
    with process, process.stdout as lines:
        for line in lines:
            found += _SAID.findall(line)
            # All caches are there; a whole server would start now.
            if _AFTER.search(line):
                break
        process.kill()
    return found


def _ik(model: str, n_ctx: int, kv_type: str, n_parallel: int, *mla: int) -> None:
    from ik_llama_cpp import _ctypes_api  # noqa: PLC0415 - loads the engine

    from qxmix.engines.library import open_library  # noqa: PLC0415

    library = open_library("ik_llama.cpp")
    library.llama_backend_init()
    loaded = library.llama_model_load_from_file(model.encode(), library.llama_model_default_params())
    params = library.llama_context_default_params()
    declared = _ctypes_api.llama_context_params

    def put(kind: Any, name: str, value: int) -> None:
        kind.from_buffer(params, getattr(declared, name).offset).value = value

    put(c_uint32, "n_ctx", n_ctx)
    put(c_uint32, "n_seq_max", n_parallel)
    put(c_int32, "type_k", get(kv_type).id)
    put(c_int32, "type_v", get(kv_type).id)
    # Without AVX-VNNI the wheel's flash attention ends the process; quantized values need it all the same.
    put(c_bool, "flash_attn", kv_type != "F16")
    for value in mla:
        put(c_int32, "mla_attn", value)
    library.llama_init_from_model(loaded, params)


def _llama_cpp(model: str, n_ctx: int, kv_type: str, n_parallel: int) -> None:
    import xllamacpp  # noqa: PLC0415 - loads the engine

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.warmup, params.fit_params, params.verbosity = (
        n_ctx,
        n_parallel,
        False,
        False,
        10,
    )
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{kv_type}")
    xllamacpp.Server(params)


if __name__ == "__main__":
    name, path, context, type_name, parallel, *more = sys.argv[1:]
    if name == "ik_llama.cpp":
        _ik(path, int(context), type_name, int(parallel), *map(int, more))
    else:
        _llama_cpp(path, int(context), type_name, int(parallel))
    sys.stdout.flush()
    os._exit(0)
