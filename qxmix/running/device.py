"""A device while it is filled."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from qxmix.running.model import Part, Placed
from qxmix.running.parts import Key


@dataclass(slots=True)
class Device:
    """What is on a device so far."""

    name: str
    room: int | None
    """Bytes; None where it does not matter."""
    compute: int
    """Bytes of buffers that it needs as soon as it has anything to compute."""
    logits: int = 0
    """Bytes of the output's results."""
    copied: int = 0
    """Bytes of embeddings that are here as the output."""
    keys: dict[Key, int] = field(default_factory=dict)
    """Layers and parts, with their bytes."""
    cache: dict[int, int] = field(default_factory=dict)
    """Layers that the engine computes here, with the bytes of their cache."""

    @property
    def left(self) -> int:
        """Bytes that are left, where it has to compute."""
        used = sum(self.keys.values()) + sum(self.cache.values()) + self.compute + self.logits + self.copied
        return (self.room or 0) - used

    def placed(self) -> Placed:
        """As a value."""
        weights: dict[Part, int] = defaultdict(int)
        for (_, part), n in self.keys.items():
            weights[part] += n
        if self.copied:
            weights["output"] += self.copied
        computes = bool(set(weights) - {"embeddings"}) or bool(self.cache)
        compute = self.compute * computes + self.logits
        return Placed(self.name, dict(weights), sum(self.cache.values()), compute, self.room)
