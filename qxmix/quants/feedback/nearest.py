"""The nearest level of a vector of weights, and the value that a decoder makes of it: ``FeedbackType.nearest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.simd import gather
from qxmix.quants.jit import inlined
from qxmix.quants.level.two_tables import TwoTables, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Nearest = Callable[..., tuple[object, object]]

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one
_0 = np.float32(0.0)


def nearest_linear(lowest: int, highest: int) -> Nearest:
    """Whole levels ``lowest .. highest`` times the step; the code is the level less the lowest."""
    low, high = np.float32(lowest), np.float32(highest)

    @inlined
    def nearest(x, step, inverse, _offset):
        level = min(max((inverse * x + _MAGIC) - _MAGIC, low), high)
        return level - low, step * level

    return nearest


def nearest_affine(nmax: int) -> Nearest:
    """``step * code + offset`` with codes ``0 .. nmax``."""
    top = np.float32(nmax)

    @inlined
    def nearest(x, step, inverse, offset):
        code = min(max((inverse * (x - offset) + _MAGIC) - _MAGIC, _0), top)
        return code, step * code + offset

    return nearest


def nearest_of_table(tables: TwoTables) -> Nearest:
    """``step * level`` with the level of a table; the offset is 1 for the shifted one, else 0."""
    entry, code_at, level_at = entry_of(tables), tables.code, tables.high

    @inlined
    def nearest(x, step, inverse, side):
        at = entry(inverse * x, side)
        return gather(code_at, at), step * gather(level_at, at)

    return nearest
