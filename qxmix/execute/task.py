"""One unit of work as plain data: a leaf's rows, what becomes of them, and where the plan says they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from qxmix.execute.deviation import Deviation
from qxmix.execute.factors import MomentsOf
from qxmix.execute.scales import Flaw


@dataclass(frozen=True, slots=True)
class Task:
    """A leaf of one tensor, and all that a worker needs to make it.  Offsets and sizes are in bytes of the file."""

    tensor: int
    """Index into the plan's tensors."""
    leaf: int
    """Index among the tensor's leaves."""
    name: str
    """The tensor's name."""
    action: Literal["copy", "encode", "hash", "derive", "measure"]
    """``hash`` reads like ``copy`` and ``derive`` computes like ``encode``, but neither writes; ``measure`` compares
    what is read with what stands in the target."""
    source: str
    """Path of the shard to read."""
    source_offset: int
    source_nbytes: int
    model_nbytes: int
    """Bytes of the model it accounts for, whatever it reads."""
    target: str = ""
    """Path of the unfinished output file."""
    target_offset: int = 0
    target_nbytes: int = 0
    source_type: str = ""
    """Type of what is read."""
    type: str = ""
    """Type of what is written."""
    n_cols: int = 0
    first_row: int = 0
    """Counted over all stacked matrices; for messages."""
    n_rows: int = 0
    importance: bytes = b""
    """``n_cols`` float32 of this matrix, or empty."""
    search: int = 0
    """Index into ``SEARCHES``."""
    moments: MomentsOf | None = None
    """Where to read second moments for error feedback; None: encode without."""
    symmetric: bool = False
    """Levels lie evenly around zero."""
    scale: float | None = None
    """What scales are multiplied with; None: the encoder's own."""
    step_rows: int = 0
    """Rows that are in memory at once: the same for all tasks of a bundle that encode."""
    measure: bool = False
    """Whether to compare what was written with what was read."""
    run: str = ""
    """The apply it belongs to, by which it can be stopped."""


class TaskResult(NamedTuple):
    """What comes back from a worker."""

    tensor: int
    leaf: int
    digest: bytes
    """SHA-256 of the bytes written."""
    source_digest: bytes
    """SHA-256 of the bytes read."""
    deviation: Deviation | None = None
    flaw: Flaw | None = None
    """The first number in the bytes read that is not finite, if they were carried over as they are."""


Bundle = tuple[Task, ...]
"""One leaf as several outputs want it: tasks that read the same bytes, each for a file of its own.  Or several leaves
of one file that are only hashed."""
