"""Making sure that every kernel of a plan is compiled before workers ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lcm
from typing import Literal

import numpy as np

from qxmix import quants
from qxmix.plan import Plan
from qxmix.planning.model import PlannedTensor
from qxmix.quants.codec import SEARCHES, encoder_for
from qxmix.quants.feedback.options import FACTORS_VERSION
from qxmix.quants.kernels.kernel import Kernel


def uncompiled(*plans: Plan) -> tuple[str, ...]:
    """The types whose kernels the plans run and this machine has not compiled yet, sorted."""
    encoded = _encoded(plans)
    if not encoded:
        return ()
    from qxmix.quants.kernels.warmup import pending  # noqa: PLC0415 - numba, which a plan without encoding does not need

    return tuple(sorted({kernel.type for kernel in pending(_kernels(encoded))}))


def warm(*plans: Plan) -> None:
    """Compile what this machine has not compiled yet, side by side, and run each kernel once on zeros, in this process.

    Otherwise every worker would compile the same kernels at the same time.
    """
    encoded = _encoded(plans)
    if not encoded:
        return
    from qxmix.quants.kernels.warmup import compile_kernel  # noqa: PLC0415
    from qxmix.quants.kernels.warmup import warm as compile_missing  # noqa: PLC0415

    compile_missing(_kernels(encoded))
    for name in sorted({t.type for t in encoded if t.feedback}):
        compile_kernel(Kernel(name, "feedback"))
    # An encoder may have one kernel for each search, and for tensors with and without an importance.
    kinds = {
        (t.source_type, t.type, t.importance is not None or t.counts_alike, t.search or SEARCHES[0], t.symmetric)
        for t in encoded
        if t.feedback is None
    }
    for source_name, name, weighted, search, symmetric in sorted(kinds):
        source, target = quants.get(source_name), quants.get(name)
        n_cols = lcm(source.block_size, target.block_size)
        n_rows = lcm(source.row_group, target.row_group)
        weights = np.zeros((n_rows, n_cols), np.float32)
        quants.codec_of(source_name).decode(np.zeros((n_rows, source.row_nbytes(n_cols)), np.uint8), weights)
        encode = encoder_for(quants.codec_of(name), symmetric=symmetric)
        columns = np.ones(n_cols if weighted else 0, np.float32)
        packed = np.zeros((n_rows, target.row_nbytes(n_cols)), np.uint8)
        encode(weights, columns, packed, SEARCHES.index(search))


def _encoded(plans: Sequence[Plan]) -> list[PlannedTensor]:
    return [t for plan in plans for t in plan.tensors if t.action == "encode"]


def _kernels(encoded: list[PlannedTensor]) -> Iterator[Kernel]:
    return (k for t in encoded for k in (Kernel(t.source_type, "decode"), Kernel(t.type, _direction(t))))


def _direction(tensor: PlannedTensor) -> Literal["encode", "feedback", "exhaustive"]:
    """Which of its type's encoders a tensor needs."""
    if tensor.feedback:
        return "feedback"
    return "exhaustive" if tensor.search == "exhaustive" and tensor.heeds_search else "encode"


def versions(plan: Plan) -> str:
    """Types and versions of all encoders, for the journal: ``Q4_0=1 Q8_0=2``; with feedback those of factors, too."""
    names = sorted({t.type for t in plan.tensors if t.action == "encode"})
    found = [f"{name}={quants.codec_of(name).version}" for name in names]
    if any(t.feedback for t in plan.tensors):
        found.append(f"factors={FACTORS_VERSION}")
    return " ".join(found)
