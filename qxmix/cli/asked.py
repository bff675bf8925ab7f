"""What was asked of ``qxmix plan`` beside the plan: the command fills it in, and what answers imports far more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qxmix.planning.memory import Chunking

if TYPE_CHECKING:
    from qxmix.running.model import Use


class Asked(NamedTuple):
    """The options of ``qxmix plan`` that show something."""

    lattice: Path | None
    use: Use | None
    measure: Path | None
    html: Path | None
    explained: str | None
    """The tensor whose way to its type is told."""
    as_json: bool
    markdown: bool
    as_map: bool
    chunking: Chunking
    """That the memory is told for."""
    terminal: bool

    @property
    def beside(self) -> bool:
        """Whether the plan alone is no answer."""
        shown = self.as_json or self.markdown or self.as_map or self.explained is not None
        return shown or any((self.lattice, self.use, self.measure, self.html))
