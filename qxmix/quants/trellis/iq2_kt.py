"""IQ2_KT: groups of 8 weights are 16-bit starts of a pseudo-random walk; blocks of 32 with a 4-bit scale.

Layout of a row: one float32 ``d``, then super-blocks of 256 weights, 68 bytes each::

    0                                4                                              68
    +--------------------------------+----------------------------------------------+
    | byte j: scale of block j in    | ql: 32 u16, the starts of the groups         |
    | the low, j + 4 in the high     |                                              |
    | nibble                         |                                              |
    +--------------------------------+----------------------------------------------+
    weight = d * IQ4_LEVELS[scale] * step k of the walk

Source: ``block_iq2_kt`` and ``quantize_row_iq2_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Packed
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.jit import inlined
from qxmix.quants.trellis.batch import BLOCKS_PER_SUPER, Batch, Fitted, pair_nibbles, store
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.kind import TrellisType, trellis_codec
from qxmix.quants.trellis.levels import GROUPS, refine_levels, rough_levels
from qxmix.quants.trellis.sets import Sets, sets_of

NBYTES = 68
HALF = BLOCKS_PER_SUPER // 2


def _pack(fitted: Fitted, packed: Packed) -> None:
    store(fitted.d, [pair_nibbles(fitted.codes), fitted.found.astype("<u2").view(np.uint8)], packed)


def _rough(batch: Batch, sets: Sets) -> Fitted:
    return rough_levels(batch, sets.books[0], (0.0,))


@inlined
def _put(data, at, d, row, start):
    for j in range(BLOCKS_PER_SUPER):
        step = d * IQ4_LEVELS[(data[at + j % HALF] >> (4 * (j // HALF))) & 15]
        for g in range(GROUPS):
            source = at + HALF + 2 * (j * GROUPS + g)
            state = np.uint32(np.uint32(data[source]) + (np.uint32(data[source + 1]) << 8) + OFFSET)
            for k in range(8):
                state = next_state(state)
                row[start + (j * GROUPS + g) * 8 + k] = step * value_of(state)


_KIND = TrellisType(
    nbytes=NBYTES,
    levels=IQ4_LEVELS,
    sets=lambda: sets_of(codebook(65536, 8, 8)),
    rough=_rough,
    refine=refine_levels,
    pack=_pack,
    put=_put,
)
CODECS = {"IQ2_KT": trellis_codec(_KIND, 1.0)}
