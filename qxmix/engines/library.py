"""The C API of an engine's shared library, reached by ctypes.  Only a child process may import this for real work.

Parameter structs differ between the engines and change every few weeks, so none is declared here.  An engine fills one
with its own defaults; it is kept as an opaque buffer larger than any version of it, the few fields that matter are
found at offsets whose default values are checked first, and everything set is read back from the context made with it.
Passing a buffer that is too long is sound: all calling conventions in use hand over such structs as memory, by address
or as the last thing on the stack, and the callee reads only what it knows.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Mapping
from ctypes import CDLL, CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxmix import system
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.quants import Engine

PACKAGES: dict[Engine, tuple[str, str]] = {
    "ik_llama.cpp": ("ik_llama_cpp", "ik-llama-cpp-python"),
    "llama.cpp": ("xllamacpp", "xllamacpp"),
}
"""Import name and PyPI name of the package that carries each engine."""

N_CTX_DEFAULT, N_BATCH_DEFAULT, N_UBATCH_DEFAULT, N_SEQ_MAX_DEFAULT = 512, 2048, 512, 1
"""What both engines put into fresh context parameters: the pattern by which the fields are recognized."""


EvalCallback = CFUNCTYPE(c_bool, c_void_p, c_bool, c_void_p)
"""``ggml_backend_sched_eval_callback``: a tensor, whether it is asked for, and nothing."""


class Opaque(Structure):
    """A parameter struct of unknown version; the engines' largest one has 256 bytes."""

    _fields_ = (("words", ctypes.c_uint64 * 128),)


class Batch(Structure):
    """``llama_batch``; the spare covers the three integers that ik_llama.cpp adds for callers without positions."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", c_void_p),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
        ("spare", ctypes.c_uint64 * 4),
    )


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_model_default_params": (Opaque, []),
    "llama_context_default_params": (Opaque, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, Opaque]),
    "llama_init_from_model": (c_void_p, [c_void_p, Opaque]),
    "llama_free": (None, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_set_embeddings": (None, [c_void_p, c_bool]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_batch": (c_uint32, [c_void_p]),
    "llama_n_ubatch": (c_uint32, [c_void_p]),
    "llama_pooling_type": (c_int32, [c_void_p]),
    "llama_model_n_embd": (c_int32, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_get_embeddings_seq": (POINTER(c_float), [c_void_p, c_int32]),
    "ggml_type_name": (c_char_p, [c_int32]),
    "ggml_backend_tensor_set": (None, [c_void_p, c_char_p, c_size_t, c_size_t]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_get_name": (c_char_p, [c_void_p]),
    "ggml_nbytes": (c_size_t, [c_void_p]),
    "ggml_op_name": (c_char_p, [c_int32]),
}
"""Functions that both engines have: result and arguments."""

_TOKENIZE = (c_int32, [c_void_p, c_char_p, c_int32, c_void_p, c_int32, c_bool, c_bool])
_TO_PIECE = (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool])
_OWN_SIGNATURES: dict[Engine, dict[str, tuple[Any, list[Any]]]] = {
    "ik_llama.cpp": {
        "llama_vocab_tokenize": _TOKENIZE,
        "llama_token_to_piece_vocab": _TO_PIECE,
        "llama_kv_cache_clear": (None, [c_void_p]),
    },
    "llama.cpp": {
        "llama_tokenize": _TOKENIZE,
        "llama_token_to_piece": _TO_PIECE,
        "llama_get_memory": (c_void_p, [c_void_p]),
        "llama_memory_clear": (None, [c_void_p, c_bool]),
    },
}


def library_path(engine: Engine) -> Path:
    """The shared library of ``engine``, without importing the package that carries it.

    Raises:
        RunError: the package is not installed, or holds no such library.

    """
    module, package = PACKAGES[engine]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise RunError(f'{engine} is not installed; get it with: pip install "qxmix[engines]" (package {package})')
    folder = Path(next(iter(spec.submodule_search_locations)))
    patterns = ("lib/libllama.*", "lib/llama.dll") if engine == "ik_llama.cpp" else ("xllamacpp*.so", "xllamacpp*.pyd")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise RunError(f"the package {package} in {folder} has no library for {sysconfig.get_platform()}; reinstall it")
    return found[0]


def open_library(engine: Engine) -> CDLL:
    """Load the library of ``engine`` into this process and declare its functions.

    Raises:
        RunError: it is missing, cannot be loaded, or lacks a function (an engine too old or too new).

    """
    path = library_path(engine)
    package = PACKAGES[engine][1]
    try:
        library = CDLL(str(path))
        for name, (result, arguments) in (_SIGNATURES | _OWN_SIGNATURES[engine]).items():
            function = _function(library, path, name)
            function.restype, function.argtypes = result, arguments
            setattr(library, name, function)
    except (OSError, AttributeError) as error:
        if system.WINDOWS and engine == "llama.cpp":
            hidden = f"on Windows {package} shows none of its functions"
            raise RunError(f"{engine} cannot be used: {hidden}") from error
        raise RunError(f"{engine} cannot be used: {error}; try another version of the package {package}") from error
    return library


def _function(library: CDLL, path: Path, name: str) -> Any:  # noqa: ANN401 - ctypes has no type for functions
    """A function of the library, or of another that came with it: on Windows none shows what those it uses have.

    Raises:
        AttributeError: none has it.

    """
    if not hasattr(library, name):
        for other in sorted(path.parent.glob(f"*ggml*{path.suffix}")):
            beside = CDLL(str(other))
            if hasattr(beside, name):
                return getattr(beside, name)
    return getattr(library, name)


def model_params(library: CDLL, engine: Engine, *, in_place: bool) -> Opaque:
    """Model parameters; with ``in_place`` the weights are read into memory of their own, as they stand in the file.

    Raises:
        RunError: the defaults are not where this version of the engine is known to keep them.

    """
    params: Opaque = library.llama_model_default_params()
    if in_place and engine == "ik_llama.cpp":
        _map_nothing_ik(params)
    elif in_place:
        _map_nothing_llama(params)
    return params


def _map_nothing_ik(params: Opaque) -> None:
    defaults = {"use_mmap": True, "use_mlock": False, "repack_tensors": False, "merge_qkv": False}
    _flags_ik(params, "llama_model_params", defaults)["use_mmap"].value = False


def ask_for_each_operation(params: Opaque, callback: Any) -> None:  # noqa: ANN401 - ctypes has no type for callbacks
    """Set what ik_llama.cpp's scheduler calls before and after each operation; keep it while the context runs."""
    from ik_llama_cpp import _ctypes_api  # noqa: PLC0415 - loads the engine, so only here, in the child

    address = ctypes.cast(callback, c_void_p).value
    assert address is not None
    ctypes.c_uint64.from_buffer(params, _ctypes_api.llama_context_params.cb_eval.offset).value = address


def _flags_ik(params: Opaque, struct: str, defaults: Mapping[str, bool]) -> dict[str, c_bool]:
    """Flags of ik_llama.cpp by name, where the wheel declares them, which differs between versions."""
    from ik_llama_cpp import _ctypes_api  # noqa: PLC0415 - loads the engine, so only here, in the child

    declared = getattr(_ctypes_api, struct)
    flags = {name: c_bool.from_buffer(params, getattr(declared, name).offset) for name in defaults}
    if {name: flag.value for name, flag in flags.items()} != defaults:
        raise RunError(_unknown_layout("ik_llama.cpp"))
    return flags


def _map_nothing_llama(params: Opaque) -> None:
    # From byte 16: n_gpu_layers -1, split_mode 1, load_mode -1 (auto), lazy_mode 1 (auto); from byte 72: vocab_only,
    # check_tensors, use_extra_bufts (repacks for the processor), no_host, no_alloc.
    modes, flags = (c_int32 * 4).from_buffer(params, 16), (c_bool * 5).from_buffer(params, 72)
    if tuple(modes) != (-1, 1, -1, 1) or tuple(flags) != (False, False, True, False, False):
        raise RunError(_unknown_layout("llama.cpp"))
    modes[2] = modes[3] = 0
    flags[2] = False


def context_params(library: CDLL, engine: Engine, *, n_ctx: int, n_ubatch: int, n_sequences: int = 1) -> Opaque:
    """Context parameters for ``n_ctx`` tokens in so many sequences, worked through ``n_ubatch`` at a time.

    Raises:
        RunError: the defaults are not where this version of the engine is known to keep them.

    """
    params: Opaque = library.llama_context_default_params()
    fields = (c_uint32 * 5).from_buffer(params)
    # ik_llama.cpp has the seed of its sampler in front
    first = 1 if engine == "ik_llama.cpp" else 0
    defaults = (N_CTX_DEFAULT, N_BATCH_DEFAULT, N_UBATCH_DEFAULT, N_SEQ_MAX_DEFAULT)
    if tuple(fields[first : first + 4]) != defaults:
        raise RunError(_unknown_layout(engine))
    fields[first : first + 4] = [n_ctx, n_ctx, n_ubatch, n_sequences]
    if engine == "ik_llama.cpp":
        _switch_flash_attention_off(params)
    return params


def _switch_flash_attention_off(params: Opaque) -> None:
    # Without AVX-VNNI the wheel's flash attention ends the process by an assertion; without it, results are also the
    # same on every machine.
    defaults = {"logits_all": False, "embeddings": False, "offload_kqv": True, "flash_attn": True}
    _flags_ik(params, "llama_context_params", defaults)["flash_attn"].value = False


def _unknown_layout(engine: Engine) -> str:
    return (
        f"this version of {engine} lays out its parameters in an unknown way; install another of {PACKAGES[engine][1]}"
    )
