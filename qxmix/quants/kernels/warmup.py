"""Compiling the kernels a plan needs before its first task, several at a time, into numba's cache.

A kernel compiles in seconds, on one core; done by the first task that needs it, the others wait or compile it too.
Here processes compile side by side and leave the result in the cache, and a marker beside it, so that a later run
knows without asking numba that there is nothing to do.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from qxmix.processors import n_processors
from qxmix.quants import codec_of, get
from qxmix.quants.codec import SEARCHES
from qxmix.quants.feedback.correlations import make_factors
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.kernels import shipped, supply
from qxmix.quants.kernels.elsewhere import Work, work_on
from qxmix.quants.kernels.kernel import Kernel, record
from qxmix.quants.kernels.stamp import kernel_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from qxmix.quants.kernels.processor_levels import ProcessorLevel

_CODE = "from qxmix.quants.kernels.elsewhere import serve; from qxmix.quants.kernels.warmup import {0}; serve({0})"
_EACH = 8
"""Kernels that one process compiles."""


def _marker(kernel: Kernel) -> Path:
    return kernel_dir(get(kernel.type).codec) / record(kernel)


def shipped_level(kernel: Kernel) -> ProcessorLevel | None:
    """The level of processors that a package brings it for; None where it has to be compiled here."""
    return shipped.level_of(get(kernel.type).codec, record(kernel))


def pending(kernels: Iterable[Kernel], *, native: bool = False) -> tuple[Kernel, ...]:
    """Those that have not been compiled for this machine yet, each once, in a fixed order.

    What is shipped need not be, unless code for exactly this processor, ``native``, is wanted.
    """
    found = (k for k in set(kernels) if not _marker(k).exists())
    return tuple(sorted(k for k in found if native or shipped_level(k) is None))


def compile_native(kernel: Kernel) -> Kernel:
    """``compile_kernel`` for exactly this processor, in a process that has called no kernel yet."""
    supply.SOURCE.set(supply.this_processor)
    return compile_kernel(kernel)


def compile_kernel(kernel: Kernel) -> Kernel:
    """Compile one kernel, or load it, by calling it on a single block; returns it."""
    run(kernel)
    # On a full disk the kernel is used and not kept; a shipped one is not to be taken for compiled once it is gone.
    if supply.SOURCE.get() is supply.this_processor or shipped_level(kernel) is None:
        with contextlib.suppress(OSError):
            marker = _marker(kernel)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
    return kernel


def run(kernel: Kernel) -> None:
    """Call one kernel on a single block, in the ways that it is compiled for."""
    quant_type, codec = get(kernel.type), codec_of(kernel.type)
    n_rows, n_cols = quant_type.row_group, quant_type.block_size
    rows = np.zeros((n_rows, n_cols), dtype=np.float32)
    packed = np.zeros((n_rows, quant_type.row_nbytes(n_cols)), dtype=np.uint8)
    if kernel.direction == "decode":
        codec.decode(packed, rows)
    elif kernel.direction == "feedback":
        assert codec.feedback is not None
        factors, _ = make_factors(np.empty(0, np.float16), np.ones(1, np.float32), 0.0, Feedback())
        columns = np.ones(n_cols, dtype=np.float32)
        columns[0] = n_cols  # outweighs the others: what is compared with feedback then is called, too
        codec.feedback(rows, columns, factors, packed, 0)
    else:
        search = SEARCHES.index("exhaustive") if kernel.direction == "exhaustive" else 0
        codec.encode(rows, np.ones(n_cols, dtype=np.float32), packed, search)
        if quant_type.importance != "required":
            codec.encode(rows, np.empty(0, dtype=np.float32), packed, search)


def warm(
    kernels: Iterable[Kernel],
    *,
    native: bool = False,
    n_processes: int | None = None,
    on_done: Callable[[Kernel], None] | None = None,
) -> int:
    """Compile what is pending; returns how many kernels that were.

    ``on_done`` is told of each as it is compiled.  A kernel whose process fails is left to whoever calls it first.
    """
    # Encoders take longest and start first, so that the processes end together.
    todo = sorted(pending(kernels, native=native), key=lambda k: k.direction == "decode")
    n_processes = min(len(todo), n_processes or n_processors())
    compile_one = compile_native if native else compile_kernel
    if n_processes <= 1 or not sys.executable:
        for kernel in todo:
            compile_one(kernel)
            if on_done:
                on_done(kernel)
        return len(todo)
    told = (lambda outcome: on_done(outcome.kernel)) if on_done else None
    work_on(todo, Work(_CODE.format(compile_one.__name__), n_kernels=_EACH), n_processes, told)
    return len(todo)
