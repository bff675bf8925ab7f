"""Words that several findings use."""

from __future__ import annotations

_GIB, _MIB = 1 << 30, 1 << 20


def human_size(nbytes: int) -> str:
    """Bytes as GiB or MiB with three digits after the point."""
    return f"{nbytes / _GIB:.3f} GiB" if nbytes >= _GIB else f"{nbytes / _MIB:.3f} MiB"
