"""IQ4_NL: 32 weights, one scale, 4-bit codes into a table of 16 uneven levels.

Layout of a block, 18 bytes::

    0       2                                    18
    +-------+------------------------------------+
    | d f16 | qs: byte t = weight t in the low,  |
    |       | weight t + 16 in the high nibble   |
    +-------+------------------------------------+
    weight = d * IQ4_LEVELS[nibble]

Source: ``block_iq4_nl`` of ggml, ``quantize_row_iq4_nl_impl`` of ik_llama.cpp (PR 295).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.decoder import block_decoder, nibbles, table_value
from qxmix.quants.block32.encoder import BLOCK, block_encoder
from qxmix.quants.block32.packing import store_nibbles
from qxmix.quants.codec import SEARCHES, Codec, Encoder, search_decides
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ4_LEVELS, nearest_code
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.search_table import either_search, table_best, table_scan
from qxmix.quants.feedback.block32 import table_feedback
from qxmix.quants.jit import inlined, spliced
from qxmix.quants.level.two_tables import TwoTables

if TYPE_CHECKING:
    from qxmix.quants.contracts import FindScale

BLOCK_NBYTES = 18

_0 = np.float32(0.0)
_1 = np.float32(1.0)

scan_iq4, best_iq4 = table_scan(IQ4_LEVELS), table_best(IQ4_LEVELS)
search_iq4 = either_search(scan_iq4, best_iq4)
code_of = nearest_code(IQ4_LEVELS)


@inlined
def _pack(packed, at, scale, _inverse, low, high):
    store_half(packed, at, scale)
    store_nibbles(packed, at + 2, low, high)


def _encoder(find: FindScale) -> Encoder:
    @spliced
    def search(x, w, search, scale, inverse, q):
        find(x, w, search, scale, q)
        for k in range(LANES):
            # The codes follow from the scale before it is rounded to a half, as in the reference.
            inverse[k] = _1 / scale[k] if scale[k] != _0 else _0
        for e in range(BLOCK):
            for k in range(LANES):
                q[e, k] = code_of(inverse[k] * x[e, k])

    return block_encoder(BLOCK_NBYTES, search, _pack, by_row=False)


CODECS = {
    "IQ4_NL": Codec(
        decode=block_decoder(BLOCK_NBYTES, nibbles(2), table_value(IQ4_LEVELS)),
        encode=search_decides(_encoder(scan_iq4), exhaustive=_encoder(best_iq4)),
        searches=SEARCHES,
        version=3,
        search_block=search_iq4,
        feedback=table_feedback(TwoTables(IQ4_LEVELS, 4), scan_iq4, best_iq4, BLOCK_NBYTES, _pack),
    )
}
