"""IQ3_XXS: super-blocks of 256 weights; groups of 4 from a grid of 256 points, 7 signs per 8, a 4-bit scale per 32.

Layout of a super-block, 98 bytes; block ``b`` is weights 32 b .., group ``g`` weights 4 g .. of the super-block::

    0       2                66                                       98
    +-------+----------------+----------------------------------------+
    | d f16 | qs: byte g =   | 8 words of 32 bits, word b =           |
    |       | grid index of  |   bits 7k ..: signs of weights 0 .. 6  |
    |       | group g        |     of eight 4 b + k; the 8th sign     |
    |       |                |     makes the number of ones even      |
    |       |                |   bits 28 .. 31: scale of block b      |
    +-------+----------------+----------------------------------------+
    weight = d * (0.5 + scale) * 0.5 * grid[index] * sign

Source: ``block_iq3_xxs`` and ``quantize_row_iq3_xxs_impl`` of ggml.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.grid.encoder import OFF_GRID, as_found, grid_codecs, start_at_max
from qxmix.quants.grid.packing import put_group, put_words, store_sign_word
from qxmix.quants.jit import inlined


@inlined
def _pack(packed, at, ls, chosen, signs):
    for g in range(64):
        packed[at + 2 + g] = np.uint8(chosen[g])
    for b in range(8):
        store_sign_word(packed, at + 66 + 4 * b, signs, 4 * b, ls[b])


@inlined
def _put_eight(data, at, e, scale, signs, values, flat, to):
    put_group(flat, to, scale, values, data[at + 2 + 2 * e], signs)
    put_group(flat, to + 4, scale, values, data[at + 3 + 2 * e], signs >> 4)


CODECS = grid_codecs(
    "IQ3_XXS", n=4, block=32, n_wanted=2, trials=15, trial_step=0.2, eps=1e-8, even=True, floor=0.0,
    sigma_factor=2.0, again=OFF_GRID, start=start_at_max, fit=as_found, pack=_pack,
    put=put_words(66, 4, 0.5, _put_eight), nbytes=98, factor=1.0125, unit=0.25, n_tried=5,
)  # fmt: skip
