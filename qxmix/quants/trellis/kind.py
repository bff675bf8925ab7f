"""What makes one trellis type differ from the others, and the codec that is built around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.trellis.batch import batches
from qxmix.quants.trellis.feedback import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Factors, Packed, Rows
    from qxmix.quants.contracts import PutRow
    from qxmix.quants.trellis.batch import Batch, Fitted
    from qxmix.quants.trellis.sets import Sets

FED_BACK = 1 << 20
"""Weights that take error feedback together: of eight columns of each span all rows are searched at a time, 4096 groups
for 256 clusters, where a batch without feedback has as many again for each column."""


@dataclass(frozen=True, slots=True)
class TrellisType:
    """What sets a type apart."""

    nbytes: int
    """Bytes of a super-block."""
    levels: NDArray[np.float32]
    """What each code of a block's scale stands for, in units of the row's scale."""
    sets: Callable[[], Sets]
    """The code vectors; all groups of a block are of one set."""
    rough: Callable[[Batch, Sets], Fitted]
    """Scales of the rows and codes of the blocks' scales, as the reference finds them, and the sets of the blocks."""
    refine: Callable[[Batch, Sets, Fitted], Fitted]
    """Code vectors and scales of the rows, beside the scales of the blocks of ``rough``."""
    pack: Callable[[Fitted, Packed], None]
    put: PutRow
    """Decodes a super-block, as in ``row_scale.row_decoder``."""


def trellis_codec(kind: TrellisType, factor: float | None = None) -> Codec:
    """Build the codec of a type; with a ``factor``, the reference's, its scales can be made larger."""

    @np.errstate(all="ignore")  # extreme weights overflow here as in the engine
    def scaled(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
        sets = kind.sets()
        for batch in batches(rows, columns, packed, magnitudes=sets.magnitudes):
            fitted = kind.refine(batch, sets, kind.rough(batch, sets))
            kind.pack(replace(fitted, d=fitted.d * factor), batch.packed)

    own = np.float32(1.0 if factor is None else factor)

    @np.errstate(all="ignore")
    def feedback(rows: Rows, columns: Columns, factors: Factors, packed: Packed, _search: int) -> None:
        sets = kind.sets()
        for batch in batches(rows, columns, packed, magnitudes=sets.magnitudes, size=FED_BACK):
            fitted = kind.rough(batch, sets)
            fitted = replace(fitted, d=fitted.d * own)
            chosen = choose(batch.rows, columns, factors, kind.levels, fitted, sets)
            kind.pack(chosen, batch.packed)

    decode = row_decoder(kind.nbytes, kind.put, half=False)
    return Codec(
        decode, at_factor(scaled, float(own)), feedback=feedback, scaled=None if factor is None else scaled, version=3
    )
