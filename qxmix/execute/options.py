"""How an apply works; nothing of it changes a byte of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.execute import reuse
from qxmix.execute.tasks import Chunking

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What :func:`qxmix.execute.apply` was told about the work."""

    n_workers: int | None = None
    executor: str = "threads"
    memory_nbytes: int | None = None
    report: bool = False
    older: reuse.Older = reuse.NOTHING
    cache: Path | None = None

    def chunking(self, n_workers: int) -> Chunking:
        """How the work is cut up among so many workers."""
        return Chunking(self.memory_nbytes, n_workers, self.report)
