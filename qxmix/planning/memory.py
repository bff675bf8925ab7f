"""How much memory an apply uses at most."""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING

from qxmix.quants import find
from qxmix.quants.feedback.spans import SPAN, block_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxmix.planning.model import Plan, PlannedTensor

BASE_NBYTES = 224 << 20
"""Resident size of a process before it holds any weights: Python, NumPy, Numba and LLVM with kernels loaded."""
CHUNK_NBYTES = 512 << 10
"""Decoded float32 weights that a worker holds at once unless a row is longer; with their source and result they stay
in a 2 MiB L2 cache."""
FACTORS_KEPT = 4
"""Matrices whose factors for error feedback a process keeps: tasks come in order, so workers share them."""


def factors_nbytes(tensors: Sequence[PlannedTensor]) -> int:
    """Bytes that a process keeps of factors for error feedback of one tensor, as each of several outputs gets it."""
    kinds = {t.feedback for t in tensors if t.feedback is not None}
    return len(kinds) * FACTORS_KEPT * 4 * SPAN * SPAN * len(block_sizes(tensors[0].source.n_cols))


def peak_nbytes(plan: Plan, n_workers: int, chunk_nbytes: int = CHUNK_NBYTES, *, beside: Sequence[Plan] = ()) -> int:
    """Bytes of memory that ``n_workers`` hold at once: the base, factors for feedback, and the rows of each.

    Args:
        plan: The plan.
        n_workers: Tasks that run at the same time.
        chunk_nbytes: Most bytes of decoded float32 weights per step; a step takes at least one row group.
        beside: Other plans for the same model, carried out in the same pass.

    """
    tensors = list(zip(plan.tensors, *(other.tensors for other in beside), strict=True))
    factors = max(map(factors_nbytes, tensors), default=0)
    return BASE_NBYTES + factors + n_workers * max((_step_nbytes(t, chunk_nbytes) for t in tensors), default=0)


def _step_nbytes(tensors: Sequence[PlannedTensor], chunk_nbytes: int) -> int:
    """Source rows, float32 rows and encoded rows of one step; a copy holds only a piece of the source.

    What several outputs get is encoded in turns, so the largest counts.
    """
    source = tensors[0].source
    n_rows = source.n_rows * source.n_matrices
    encoded = [t for t in tensors if t.action == "encode"]
    if not encoded or n_rows == 0:
        return min(source.nbytes, chunk_nbytes)
    decoded = 4 * source.n_cols
    group = lcm(row_group(source.type), *(row_group(t.type) for t in encoded))
    step = max(1, chunk_nbytes // (decoded * group)) * group
    return step * ((source.nbytes + max(t.nbytes for t in encoded)) // n_rows + decoded)


def row_group(type_name: str) -> int:
    """Rows that are stored as one unit; 1 for a type that neither engine writes."""
    known = find(type_name)
    return known.row_group if known else 1
