"""Compiling the kernels a plan needs before its first task, several at a time, into numba's cache.

A kernel compiles in seconds, on one core; done by the first task that needs it, the others wait or compile it too.
Here processes compile side by side and leave the result in the cache, and a marker beside it, so that a later run
knows without asking numba that there is nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from qxmix.processors import n_processors
from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.codec import SEARCHES
from qxmix.quants.feedback.correlations import make_factors
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.stamp import kernel_dir

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Kernel:
    """One codec in one direction; an encoder with error feedback, and one with the exhaustive search, by itself."""

    type: str
    direction: Literal["encode", "decode", "feedback", "exhaustive"]


def every_kernel() -> tuple[Kernel, ...]:
    """The kernels of all types in all directions."""
    kernels: list[Kernel] = []
    for quant_type in QUANT_TYPES:
        if quant_type.codec:
            name = quant_type.name
            kernels += Kernel(name, "decode"), Kernel(name, "encode")
            kernels += [Kernel(name, "feedback")] if quant_type.feeds_back else []
            kernels += [Kernel(name, "exhaustive")] if quant_type.searches else []
    return tuple(kernels)


def _marker(kernel: Kernel) -> Path:
    return kernel_dir(get(kernel.type).codec) / f"{kernel.type}-{kernel.direction}.ready"


def pending(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """Those that have not been compiled for this machine yet, each once, in a fixed order."""
    return tuple(sorted(k for k in set(kernels) if not _marker(k).exists()))


def compile_kernel(kernel: Kernel) -> Kernel:
    """Compile one kernel, or load it from the cache, by calling it on a single block; returns it."""
    quant_type, codec = get(kernel.type), codec_of(kernel.type)
    n_rows, n_cols = quant_type.row_group, quant_type.block_size
    rows = np.zeros((n_rows, n_cols), dtype=np.float32)
    packed = np.zeros((n_rows, quant_type.row_nbytes(n_cols)), dtype=np.uint8)
    if kernel.direction == "decode":
        codec.decode(packed, rows)
    elif kernel.direction == "feedback":
        assert codec.feedback is not None
        factors, _ = make_factors(np.empty(0, np.float16), np.ones(1, np.float32), 0.0, Feedback())
        codec.feedback(rows, np.ones(n_cols, dtype=np.float32), factors, packed, 0)
    else:
        search = SEARCHES.index("exhaustive") if kernel.direction == "exhaustive" else 0
        codec.encode(rows, np.ones(n_cols, dtype=np.float32), packed, search)
        if quant_type.importance != "required":
            codec.encode(rows, np.empty(0, dtype=np.float32), packed, search)
    marker = _marker(kernel)
    # On a full disk the kernel is used and not kept.
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return kernel


def warm(
    kernels: Iterable[Kernel], *, n_processes: int | None = None, on_done: Callable[[Kernel], None] | None = None
) -> int:
    """Compile what is pending; returns how many kernels that were.

    ``on_done`` is told of each as it is compiled.  A kernel whose process fails is left to whoever calls it first.
    """
    # Encoders take longest and start first, so that the processes end together.
    todo = sorted(pending(kernels), key=lambda k: k.direction == "decode")
    n_processes = min(len(todo), n_processes or n_processors())
    if n_processes <= 1 or not sys.executable:
        for kernel in todo:
            compile_kernel(kernel)
            if on_done:
                on_done(kernel)
        return len(todo)
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(n_processes) as pool:
        try:
            for kernel in pool.map(partial(_compile_elsewhere, running), todo):
                if on_done:
                    on_done(kernel)
        except BaseException:
            # Ctrl-C must not wait for seconds of compiling.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.kill()
            raise
    return len(todo)


def _compile_elsewhere(running: set[subprocess.Popen[bytes]], kernel: Kernel) -> Kernel:
    """Compile in a new interpreter, which is in ``running`` meanwhile.

    multiprocessing would import the caller's main module again, guarded or not.
    """
    import subprocess  # noqa: PLC0415 - where there is something to compile

    code = "import sys; from qxmix.quants.warmup import Kernel, compile_kernel; compile_kernel(Kernel(*sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, kernel.type, kernel.direction]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdin=null, stdout=null, stderr=null)
    running.add(process)
    process.wait()
    running.discard(process)
    return kernel
