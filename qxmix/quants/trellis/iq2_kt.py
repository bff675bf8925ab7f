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

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.common.row_scale import load_float
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import kernel
from qxmix.quants.trellis.batch import BLOCKS_PER_SUPER, pair_nibbles
from qxmix.quants.trellis.codebook import OFFSET, codebook, next_state, value_of
from qxmix.quants.trellis.levels import GROUPS, encode_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Packed, Rows

NBYTES = 68
ROW_NBYTES = 4
HALF = BLOCKS_PER_SUPER // 2


def _pack(codes: NDArray[np.uint8], found: NDArray[np.int32]) -> list[NDArray[np.uint8]]:
    return [pair_nibbles(codes), found.astype("<u2").view(np.uint8)]


def _encode(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:  # noqa: ARG001 - one search only
    book = codebook(65536, 8, 8)
    encode_levels(rows, columns, packed, book, offsets=(0.0,), factor=1.0, pack=_pack)


@kernel
def _decode(packed, rows):
    n_rows, n_cols = rows.shape
    for r in range(n_rows):
        row, to = packed[r], rows[r]
        d = load_float(row, 0)
        for s in range(n_cols // SUPER):
            at = ROW_NBYTES + s * NBYTES
            for j in range(BLOCKS_PER_SUPER):
                step = d * IQ4_LEVELS[(row[at + j % HALF] >> (4 * (j // HALF))) & 15]
                for g in range(GROUPS):
                    source = at + HALF + 2 * (j * GROUPS + g)
                    state = np.uint32(np.uint32(row[source]) + (np.uint32(row[source + 1]) << 8) + OFFSET)
                    for k in range(8):
                        state = next_state(state)
                        to[s * SUPER + (j * GROUPS + g) * 8 + k] = step * value_of(state)


CODECS = {"IQ2_KT": Codec(decode=_decode, encode=_encode)}
