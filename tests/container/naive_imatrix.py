"""A slow reader of legacy importance matrices, value by value, that trusts the file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def read_dat(path: Path) -> tuple[dict[str, list[float]], int, str]:
    """Entries divided by their calls in float32, chunks, dataset."""
    with path.open("rb") as file:

        def i32() -> int:
            return int(struct.unpack("<i", file.read(4))[0])

        entries = {}
        for _ in range(i32()):
            name = file.read(i32()).decode()
            n_calls, n_values = i32(), i32()
            values = [np.float32(struct.unpack("<f", file.read(4))[0]) for _ in range(n_values)]
            if n_calls > 0:
                values = [v / np.float32(n_calls) for v in values]
            entries[name] = [float(v) for v in values]
        rest = file.read(4)
        n_chunks = struct.unpack("<i", rest)[0] if rest else 0
        dataset = file.read(i32()).decode() if rest else ""
        return entries, n_chunks, dataset
