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

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.numerics import load_half, store_half
from qxmix.quants.grid.encoder import OFF_GRID, as_found, grid_encoder, start_at_max
from qxmix.quants.grid.packing import eighth_sign, grid_decoder, load_word, put_group, store_sign_word
from qxmix.quants.jit import inlined

BLOCK_NBYTES = 98


@inlined
def _pack(packed, at, d, ls, chosen, signs):
    store_half(packed, at, d)
    for g in range(64):
        packed[at + 2 + g] = np.uint8(chosen[g])
    for b in range(8):
        store_sign_word(packed, at + 66 + 4 * b, signs, 4 * b, ls[b])


@inlined
def _put(data, at, values, flat, to):
    d = load_half(data, at)
    for b in range(8):
        word = load_word(data, at + 66 + 4 * b)
        scale = d * (np.float32(0.5) + np.float32(word >> np.uint32(28))) * np.float32(0.5)
        for k in range(4):
            signs = eighth_sign((word >> np.uint32(7 * k)) & np.uint32(127))
            g = 8 * b + 2 * k
            put_group(flat, to + 4 * g, scale, values, data[at + 2 + g], signs)
            put_group(flat, to + 4 * g + 4, scale, values, data[at + 3 + g], signs >> 4)


_ENCODE = grid_encoder(
    "IQ3_XXS", n=4, block=32, n_wanted=2, trials=15, trial_step=0.2, eps=1e-8, even=True, floor=0.0,
    sigma_factor=2.0, again=OFF_GRID, start=start_at_max, fit=as_found, pack=_pack,
    block_nbytes=BLOCK_NBYTES,
)  # fmt: skip
CODECS = {
    "IQ3_XXS": Codec(
        decode=grid_decoder("IQ3_XXS", BLOCK_NBYTES, _put), encode=at_factor(_ENCODE, 1.0125), scaled=_ENCODE
    )
}
