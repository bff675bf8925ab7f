"""Which leaves are done, and what their digests add up to."""

from __future__ import annotations

from dataclasses import dataclass

from qxmix.execute import digests, reuse
from qxmix.execute.deviation import total
from qxmix.execute.result import TensorResult
from qxmix.execute.task import TaskResult
from qxmix.measurement.lattice import Expected
from qxmix.plan import Plan
from qxmix.planning import effort


class Ledger:
    """Collects the results of tasks; leaves of a tensor are forgotten once it is complete."""

    def __init__(self, plan: Plan, expected: Expected | None = None) -> None:
        self._plan, self._expected = plan, expected
        self._parts = digests.Gathered[TaskResult]([t.source for t in plan.tensors])
        self._tensors: dict[int, TensorResult] = {}
        self.done_nbytes = 0
        """Bytes of the model in leaves that are done."""
        self.total_nbytes = sum(t.source.nbytes for t in plan.tensors)
        self._efforts = [effort.per_byte(t) for t in plan.tensors]
        self.done_effort = 0.0
        """Work of the leaves that are done, in seconds of one thread (see :mod:`qxmix.planning.effort`)."""
        self.total_effort = sum(map(effort.seconds, plan.tensors))

    def add(self, result: TaskResult, source_nbytes: int) -> None:
        """Note a leaf made of ``source_nbytes`` of the model.

        Raises:
            ModelFileError: it was the last of its tensor, whose weights are not what was expected.

        """
        self.done_nbytes += source_nbytes
        self.done_effort += self._efforts[result.tensor] * source_nbytes
        parts = self._parts.add(result.tensor, result.leaf, result)
        if parts is not None:
            self._close(result.tensor, parts)

    def has(self, tensor: int, leaf: int) -> bool:
        """Whether a leaf is done."""
        return tensor in self._tensors or leaf in self._parts.of(tensor)

    def begun(self, tensor: int) -> bool:
        """Whether any leaf of a tensor is done."""
        return tensor in self._tensors or bool(self._parts.of(tensor))

    def results(self) -> tuple[TensorResult, ...]:
        """All tensors in output order; every one must be complete."""
        return tuple(self._tensors[i] for i in range(len(self._plan.tensors)))

    def _close(self, index: int, parts: tuple[TaskResult, ...]) -> None:
        tensor = self._plan.tensors[index]
        source_sha256 = digests.combine(part.source_digest for part in parts).hex()
        if self._expected is not None:
            self._expected.compare(self._plan.header.path, tensor.name, source_sha256)
        deviations = [part.deviation for part in parts if part.deviation is not None]
        self._tensors[index] = TensorResult(
            name=tensor.name,
            source_type=tensor.source_type,
            type=tensor.type,
            action=tensor.action,
            nbytes=tensor.nbytes,
            sha256=digests.combine(part.digest for part in parts).hex(),
            source_sha256=source_sha256,
            deviation=total(deviations) if deviations else None,
            flaw=next((part.flaw for part in parts if part.flaw is not None), None),
        )


@dataclass(frozen=True, slots=True)
class Roots:
    """Root digests of the model and of the output, in hex."""

    source: str
    data: str

    @classmethod
    def of(cls, plan: Plan, tensors: tuple[TensorResult, ...]) -> Roots:
        """Add up the tensors: the model's in its order, the output's in the order it has in the files."""
        return cls(
            digests.root((t.name, bytes.fromhex(t.source_sha256)) for t in tensors),
            digests.root((tensors[i].name, bytes.fromhex(tensors[i].sha256)) for i in reuse.output_order(plan)),
        )
