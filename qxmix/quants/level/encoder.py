"""The encoders around ``level.search``: with a scale per super-block, and with a scale per row.

Both go through the same steps.  The search leaves a scale for each block and which of the two tables it is for.  The
largest of these gives the scale of the super-block or row, ``d``, in whose multiples the others are stored.  Then all
codes are chosen anew for the scales as stored, and ``d`` is fitted once more to all weights, whose sums are collected
on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Encoder, ScaledEncoder
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import nint
from qxmix.quants.common.row_encoder import clear_lanes, row_encoder, units_by
from qxmix.quants.common.simd import WIDTH, gather, load, splat, store, store_bytes, where
from qxmix.quants.common.superblock import SUPER, largest_scale, put_half, super_encoder
from qxmix.quants.common.weigh_ik import weigh_lanes
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.two_tables import TwoTables, entry_of

if TYPE_CHECKING:
    from qxmix.quants.contracts import PackLevels, WeighLanes

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@dataclass(frozen=True, slots=True)
class LevelType:
    """What distinguishes the types; functions are inlined into the encoder."""

    tables: TwoTables
    search: Callable[..., None]
    """What ``level_search`` built."""
    block: int
    """Weights per block: 16 or 32."""
    nbytes: int
    """Bytes of a super-block."""
    variance: float
    """Factor of the super-block's mean square in the weights."""
    share: float
    """Share of that variance in the weights where there is no importance."""
    unit: Callable[..., np.float32]
    """Scale of a super-block or row before the last fit, from the largest magnitude of a block's scale and the scale
    that has it."""
    level: Callable[..., np.float32]
    """Whole multiple of the unit that stands for a block's scale, from ``scale / unit``."""
    pack: PackLevels
    """Packs ``codes (256, LANES)``, levels and tables ``(n_blocks, LANES)`` into ``(nbytes, LANES)``, all but d."""
    skips: bool = False
    """Blocks whose scale came out zero get codes 0, and so do all bytes where no block has a scale; else codes are
    those nearest to zero."""
    pairwise: bool = False
    """The last sums add weights t and t + 16 first."""
    half: bool = True
    """d is a half, else a float32."""
    coarse: bool = False
    """Coarse scales beside the levels: error feedback tries three, and makes the largest a whole multiple."""


def clamped(unit: int, low: int, high: int) -> tuple[Callable[..., np.float32], Callable[..., np.float32]]:
    """``unit`` and ``level`` of scales stored as the multiples ``low .. high`` of ``-largest / unit``."""
    by, least, most = np.float32(unit), np.float32(low), np.float32(high)

    @inlined
    def unit_of(_largest, extreme):
        return -extreme / by

    @inlined
    def level_of(multiple):
        level = nint(multiple)
        return min(max(level, least), most) if level == level else _0  # noqa: PLR0124 - NaN counts as 0

    return unit_of, level_of


@inlined
def odd_unit(largest, _extreme):
    """``unit`` of scales stored as the odd multiples of it from -127 to 127."""
    return largest / np.float32(127.0)


@inlined
def odd_level(multiple):
    """The odd number that ``odd_unit`` is meant for."""
    half = min(max(nint(np.float32(0.5) * (multiple + np.float32(127.0))), _0), np.float32(127.0))
    return np.float32(2.0) * half - np.float32(127.0)


def _settle(kind: LevelType) -> Callable[..., None]:
    entry, code_at, level_at = entry_of(kind.tables), kind.tables.code, kind.tables.high
    skips, pairwise = kind.skips, kind.pairwise

    @inlined
    def fit(x, w, e, g, inverse, side, multiple, used, codes):
        """Store the code of a weight; its terms of the sums for d."""
        v, u = load(x, e * LANES + g), load(w, e * LANES + g)
        at = entry(inverse * v, side)
        code = gather(code_at, at)
        store_bytes(codes, e * LANES + g, where(used, code, splat(_0)) if skips else code)
        q = gather(level_at, at) * multiple
        return (u * q) * v, (u * q) * q

    @kernel
    def settle(x, w, n_lanes, d, level, shifted, s1, s2, codes):
        """Codes of a block (n, LANES) for step ``d * level``; its terms are added to the sums (LANES,)."""
        n = x.shape[0]
        for g in range(0, n_lanes, WIDTH):
            multiple, side = load(level, g), load(shifted, g)
            step = load(d, g) * multiple
            used = step != _0
            inverse = where(used, _1 / step, splat(_0))
            a, b = load(s1, g), load(s2, g)
            if pairwise:
                for e in range(n // 2):
                    a1, b1 = fit(x, w, e, g, inverse, side, multiple, used, codes)
                    a2, b2 = fit(x, w, e + n // 2, g, inverse, side, multiple, used, codes)
                    a, b = a + (a1 + a2), b + (b1 + b2)
            else:
                for e in range(n):
                    a1, b1 = fit(x, w, e, g, inverse, side, multiple, used, codes)
                    a, b = a + a1, b + b1
            store(s1, g, a)
            store(s2, g, b)

    return settle


def _settle_super(kind: LevelType) -> Callable[..., None]:
    settle, block, level_of, pack = _settle(kind), kind.block, kind.level, kind.pack

    @kernel
    def settle_super(x, w, n_lanes, d, found, s1, s2, codes, packed):
        """Levels and codes of a super-block a lane for unit ``d``, packed; the scales in ``found`` become levels."""
        levels, shifted = found[0], found[1]
        for j in range(SUPER // block):
            for k in range(LANES):
                inverse = _1 / d[k] if d[k] != _0 else _0
                levels[j, k] = level_of(inverse * levels[j, k])
            part = slice(block * j, block * j + block)
            settle(x[part], w[part], n_lanes, d, levels[j], shifted[j], s1, s2, codes[part])
        pack(codes, levels, shifted, packed)

    return settle_super


def weigh_of(kind: LevelType) -> WeighLanes:
    """Build the weights of a type's search."""
    return weigh_lanes(kind.block, kind.variance, kind.share)


def encode_super(kind: LevelType) -> ScaledEncoder:
    """Build the encoder of a type with a half scale in front of each super-block, for any factor of that."""
    weigh, search, settle_super, unit_of = weigh_of(kind), kind.search, _settle_super(kind), kind.unit
    block, nbytes, skips = kind.block, kind.nbytes, kind.skips

    @spliced
    def weigh_all(x, w, weighted):
        weigh(x, w, LANES, weighted)

    @spliced
    def fill(x, w, _weighted, factor, packed):
        codes = np.empty((SUPER, LANES), np.uint8)
        one, found = np.empty((2, LANES), np.float32), np.empty((2, SUPER // block, LANES), np.float32)
        largest, extreme = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        d, s1, s2 = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        for j in range(SUPER // block):
            part = slice(block * j, block * j + block)
            search(x[part], w[part], one)
            for k in range(LANES):
                found[0, j, k] = one[0, k]
                found[1, j, k] = one[1, k]
        largest_scale(found[0], largest, extreme)
        for k in range(LANES):
            d[k] = unit_of(largest[k], extreme[k])
            s1[k] = s2[k] = _0
        settle_super(x, w, LANES, d, found, s1, s2, codes, packed)
        for k in range(LANES):
            d[k] = (s1[k] / s2[k] if s2[k] > _0 else d[k]) * factor
        put_half(packed, 0, d)
        if skips:
            clear_lanes(packed, largest)

    return super_encoder(nbytes, 0, weigh_all, fill)


def encode_rows(kind: LevelType) -> Encoder:
    """Build the encoder of a type with one scale in front of each row, a half or a float32."""
    return row_encoder(
        block=kind.block, nbytes=kind.nbytes, half=kind.half, n_found=2, weigh=weigh_of(kind), search=kind.search,
        units=units_by(kind.unit), settle=_settle_super(kind), last=fitted,
    )  # fmt: skip


@inlined
def fitted(s1, s2, d, _search):
    """The scale that fits the sums best; d where they say nothing."""
    return s1 / s2 if s2 > _0 else d
