"""IQ2_S: super-blocks of 256 weights; groups of 8 from a grid of 1024 points, explicit signs, a 4-bit scale per 16.

Layout of a super-block, 82 bytes; block ``b`` is weights 16 b .., group ``g`` weights 8 g .. of the super-block::

    0       2                34                66                    74                82
    +-------+----------------+-----------------+---------------------+-----------------+
    | d f16 | qs: byte g =   | signs: bit i of | qh: bits 2k, 2k + 1 | scales: nibble  |
    |       | low 8 bits of  | byte g = weight | of byte j = top 2   | b, low half     |
    |       | group g's grid | 8 g + i is      | bits of group       | first           |
    |       | index          | negative        | 4 j + k's index     |                 |
    +-------+----------------+-----------------+---------------------+-----------------+
    weight = d * (0.5 + scale) * 0.25 * grid[index] * sign

Source: ``block_iq2_s`` and ``quantize_row_iq2_s_impl`` of ggml.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.numerics import load_half
from qxmix.quants.grid.encoder import OFF_GRID, grid_codecs, start_at_max
from qxmix.quants.grid.packing import put_group, step_of, store_nibbles, take_nibble
from qxmix.quants.jit import inlined


@inlined
def _pack(packed, at, ls, chosen, signs):
    for j in range(8):
        high = 0
        for k in range(4):
            g = 4 * j + k
            packed[at + 2 + g] = np.uint8(chosen[g] & 255)
            packed[at + 34 + g] = signs[g]
            high |= (chosen[g] >> 8) << (2 * k)
        packed[at + 66 + j] = np.uint8(high)
    store_nibbles(packed, at + 74, ls)


@inlined
def _put(data, at, values, flat, to):
    d = load_half(data, at)
    for g in range(32):
        scale = step_of(d, take_nibble(data, at + 74, g >> 1), 0.25)
        high = (np.uint32(data[at + 66 + (g >> 2)]) >> (2 * (g & 3))) & 3
        point = np.uint32(data[at + 2 + g]) | (high << 8)
        put_group(flat, to + 8 * g, scale, values, point, data[at + 34 + g])


@inlined
def _fit(d, _rows, _at, _w, _values, _chosen, _signs, _ls):
    return d * np.float32(0.9875)


CODECS = grid_codecs(
    "IQ2_S", n=8, block=16, n_wanted=1, trials=9, trial_step=0.1, eps=1e-8, even=False, floor=0.25,
    sigma_factor=2.0, again=OFF_GRID, start=start_at_max, fit=_fit, pack=_pack, put=_put,
    nbytes=82, factor=1.0, unit=0.125, n_tried=3,
)  # fmt: skip
