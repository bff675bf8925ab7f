"""How an apply works; nothing of it changes a byte of the output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qxmix.execute import reuse
from qxmix.measurement.lattice import Expected
from qxmix.planning.memory import Chunking


@dataclass(frozen=True, slots=True)
class Options:
    """What :func:`qxmix.execute.apply` was told about the work; it describes each."""

    n_workers: int | None = None
    executor: str = "threads"
    memory_nbytes: int | None = None
    report: bool = False
    resume: bool = False
    overwrite: bool = False
    strict: bool = False
    reuse_output: Path | None = None
    cache: Path | None = None
    expected: Expected | None = None
    """What weights the tensors must have that lattices were found in."""

    def chunking(self, n_workers: int) -> Chunking:
        """How the work is cut up among so many workers."""
        return Chunking(self.memory_nbytes, n_workers, self.report, self.executor == "processes")

    def older(self) -> reuse.Older:
        """What can be taken over from the older output and the cache."""
        parts = [reuse.in_output(self.reuse_output)] if self.reuse_output is not None else []
        return reuse.merge([*parts, *([reuse.in_folder(self.cache)] if self.cache is not None else [])])
