"""How much memory an apply uses at most, and how many rows a worker may hold: one formula for the plan and the tasks.

::

    base of each process + importance matrix        held all the time
    + factors for feedback, and entries of moments  of each process that makes tensors
    + per worker: the rows of one step              as read, as float32, as written; to measure, more
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

from qxmix.errors import PlanError
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.quants import find
from qxmix.quants.feedback.spans import SPAN, block_sizes

if TYPE_CHECKING:
    from qxmix.container.moments import Moments

BASE_NBYTES = 224 << 20
"""Resident size of a process before it holds any weights: Python, NumPy, Numba and LLVM with kernels loaded."""
CHUNK_NBYTES = 2 << 20
"""Decoded float32 weights that a worker holds at once unless a row is longer.  What stands between two kernels finds
its code and data out of the cache and takes ten times as long as when it is hot, so that few long steps are better than
many that stay in L2: five K-quants of one F16 model took 12.0 s of processor time with 512 KiB, 11.5 s with 1 MiB,
10.6 s with 2 MiB, 10.1 s with 4 MiB and 10.4 s with 8 MiB, Q8_0 1.36, 1.20, 1.15, - and 1.19 s (512 KiB of L2)."""
FACTORS_KEPT = 4
"""Matrices whose factors for error feedback a process keeps: tasks come in order, so workers share them."""
_ENTRIES_KEPT = 2
"""Entries of moments that a process holds: the last one, which others of its matrices may need, and one being read."""
_MEASURED_NBYTES = 28
"""Bytes per weight that measuring takes: the weights restored, and sums in float64."""


class Chunking(NamedTuple):
    """How work is cut up.  Nothing here changes a byte of the output."""

    memory_nbytes: int | None = None
    """Bound on all memory, base included; None for the default step."""
    n_workers: int = 1
    measure: bool = False
    """Whether decoded results are held beside the weights, to report errors."""
    processes: bool = False
    """Whether each worker is a process of its own, beside the one that hands out tasks.  The workers of a cluster are
    not counted: their memory is that of other machines."""

    @property
    def workers(self) -> str:
        """``1 worker``, ``2 workers``, ..."""
        return "1 worker" if self.n_workers == 1 else f"{self.n_workers} workers"


def peak_nbytes(plan: Plan, chunking: Chunking, *, beside: Sequence[Plan] = ()) -> int:
    """Bytes of memory that an apply holds at once, all its processes together.

    Args:
        plan: The plan.
        chunking: How the work is cut up.
        beside: Other plans for the same model, carried out in the same pass.

    Raises:
        PlanError: a tensor cannot be made within ``chunking.memory_nbytes``.

    """
    memory = Memory((plan, *beside), chunking)
    return max(map(memory.of, range(len(plan.tensors))), default=BASE_NBYTES)


class Memory:
    """What the tensors of a model take when the work on all its outputs is cut up like this."""

    def __init__(self, plans: Sequence[Plan], chunking: Chunking) -> None:
        self._plans, self._chunking = plans, chunking
        matrices = {id(plan.imatrix): plan.imatrix for plan in plans if plan.imatrix is not None}
        held = sum(values.nbytes for matrix in matrices.values() for values in matrix.entries.values())
        self._always_nbytes = (1 + chunking.n_workers * chunking.processes) * BASE_NBYTES + held

    def of(self, index: int) -> int:
        """Bytes that are held while a tensor is made by all workers.

        Raises:
            PlanError: as :meth:`step_rows`.

        """
        tensors, source = self._encoded(index), self._plans[0].tensors[index].source
        # A copy holds only a piece of the source.
        step = self.step_rows(index) * self._row_nbytes(tensors) if tensors else min(source.nbytes, CHUNK_NBYTES)
        return self._fixed_nbytes(tensors) + self._chunking.n_workers * step

    def step_rows(self, index: int) -> int:
        """Rows of a tensor that are decoded and encoded at once, a multiple of the row groups of all types.

        0 where nothing is encoded.

        Raises:
            PlanError: not even one row group fits into the bound.

        """
        tensors, (bound, n_workers, *_) = self._encoded(index), self._chunking
        if not tensors:
            return 0
        tensor = tensors[0]
        group = lcm(_row_group(tensor.source_type), *(_row_group(t.type) for t in tensors))
        wanted = max(1, CHUNK_NBYTES // (4 * tensor.source.n_cols * group)) * group
        if bound is None:
            return wanted
        row, fixed = self._row_nbytes(tensors), self._fixed_nbytes(tensors)
        fitting = (bound - fixed) // n_workers // (row * group) * group
        if fitting < group:
            least = fixed + n_workers * row * group
            text = (
                f"{tensor.name} needs {-(-least // 2**20)} MiB with {self._chunking.workers} and the bound is"
                f" {bound >> 20} MiB; raise --memory or use fewer workers"
            )
            raise PlanError(text)
        return min(wanted, fitting)

    def _encoded(self, index: int) -> tuple[PlannedTensor, ...]:
        """A tensor as those plans have it that encode it."""
        return tuple(t for plan in self._plans if (t := plan.tensors[index]).action == "encode" and t.nbytes)

    def _row_nbytes(self, tensors: Sequence[PlannedTensor]) -> int:
        """Bytes that one row takes; what several outputs get is encoded in turns, so the largest counts."""
        source = tensors[0].source
        written = max(t.nbytes for t in tensors)
        per_weight = 4 + _MEASURED_NBYTES * self._chunking.measure
        return (source.nbytes + written) // (source.n_rows * source.n_matrices) + per_weight * source.n_cols

    def _fixed_nbytes(self, tensors: Sequence[PlannedTensor]) -> int:
        """Bytes that are held while a tensor is made, however few rows are."""
        kinds = {t.feedback for t in tensors if t.feedback is not None}
        if not kinds:
            return self._always_nbytes
        n_makers = self._chunking.n_workers if self._chunking.processes else 1
        factors = len(kinds) * FACTORS_KEPT * 4 * SPAN * SPAN * len(block_sizes(tensors[0].source.n_cols))
        read = max(_largest_nbytes(plan.moments) for plan in self._plans)
        return self._always_nbytes + n_makers * (factors + _ENTRIES_KEPT * read)


def _largest_nbytes(moments: Moments | None) -> int:
    """Bytes of the largest entry."""
    entries = moments.entries.values() if moments is not None else ()
    return max(
        (e.diag.nbytes + e.counts.nbytes + e.correlations.nbytes + e.correlation_counts.nbytes for e in entries),
        default=0,
    )


def _row_group(type_name: str) -> int:
    """Rows that are stored as one unit; 1 for a type that neither engine writes."""
    known = find(type_name)
    return known.row_group if known else 1
