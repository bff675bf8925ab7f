"""IQ3_S: super-blocks of 256 weights; groups of 4 from a grid of 512 points, explicit signs, a 4-bit scale per 32.

Layout of a super-block, 110 bytes; block ``b`` is weights 32 b .., group ``g`` weights 4 g .. of the super-block::

    0       2                66                74                  106               110
    +-------+----------------+-----------------+-------------------+-----------------+
    | d f16 | qs: byte g =   | qh: bit k of    | signs: bit i of   | scales: nibble  |
    |       | low 8 bits of  | byte b = 9th    | byte k = weight   | b, low half     |
    |       | group g's grid | bit of group    | 8 k + i is        | first           |
    |       | index          | 8 b + k's index | negative          |                 |
    +-------+----------------+-----------------+-------------------+-----------------+
    weight = d * (1 + 2 * scale) * grid[index] * sign

Source: ``block_iq3_s`` and ``quantize_row_iq3_s_impl`` of ggml, with one deliberate difference: the reference skips a
block of 32 zeros without moving on in ``qs`` and ``signs``, so that it stores all later blocks of the super-block 8
and 4 bytes too early, and they decode to noise (relative error above 1).  Here each block is stored in its place, a
zero block as index 0.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.numerics import load_half
from qxmix.quants.grid.encoder import ALL_IF_OFF, as_found, grid_codecs, start_at_max
from qxmix.quants.grid.packing import put_group, store_nibbles, take_nibble
from qxmix.quants.jit import inlined


@inlined
def _pack(packed, at, ls, chosen, signs):
    for b in range(8):
        high = 0
        for k in range(8):
            packed[at + 2 + 8 * b + k] = np.uint8(chosen[8 * b + k] & 255)
            high |= (chosen[8 * b + k] >> 8) << k
        packed[at + 66 + b] = np.uint8(high)
    for k in range(32):
        packed[at + 74 + k] = signs[k]
    store_nibbles(packed, at + 106, ls)


@inlined
def _put(data, at, values, flat, to):
    d = load_half(data, at)
    for g in range(64):
        scale = d * np.float32(1 + 2 * np.int32(take_nibble(data, at + 106, g >> 3)))
        point = np.uint32(data[at + 2 + g]) | (((np.uint32(data[at + 66 + (g >> 3)]) >> (g & 7)) & 1) << 8)
        put_group(flat, to + 4 * g, scale, values, point, np.uint32(data[at + 74 + (g >> 1)]) >> (4 * (g & 1)))


CODECS = grid_codecs(
    "IQ3_S", n=4, block=32, n_wanted=3, trials=9, trial_step=0.2, eps=1e-45, even=False, floor=0.0,
    sigma_factor=2.0, again=ALL_IF_OFF, start=start_at_max, fit=as_found, pack=_pack, put=_put,
    nbytes=110, factor=1.033, unit=1.0, n_tried=3,
)  # fmt: skip
