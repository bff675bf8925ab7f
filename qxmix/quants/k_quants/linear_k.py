"""The encoder that Q3_K and Q6_K share: 16 blocks of 16 weights with a scale each, linear levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Encoder
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.superblock import SUPER, round_block, super_encoder
from qxmix.quants.jit import spliced

if TYPE_CHECKING:
    from qxmix.quants.contracts import FindLevels, Weigh

BLOCK = 16
N_BLOCKS = SUPER // BLOCK


@spliced
def round_linear(x, d, levels, nmax, code):
    """Codes of levels ``[-nmax, nmax - 1]`` for the steps that a decoder will use: d times the scales' levels."""
    step, none = np.empty(LANES, np.float32), np.zeros(LANES, np.float32)
    for j in range(N_BLOCKS):
        for k in range(LANES):
            step[k] = d[k] * levels[j, k]
        part = slice(BLOCK * j, BLOCK * (j + 1))
        round_block(x[part], step, none, np.float32(-nmax), np.float32(nmax - 1), code[part])


def linear_encoder(
    nmax: int, nbytes: int, weigh: Weigh, find: Callable[..., None], finish: Callable[..., None]
) -> Encoder:
    """Build the encoder for levels ``[-nmax, nmax - 1]``; ``weigh`` is that of ``super_encoder``.

    ``find(x, w, weighted, search, scale, q)`` finds the scale (LANES,) and the levels (16, LANES) of a block.
    ``finish(x, w, weighted, search, scales, code, packed)`` rounds and packs: the scales (16, LANES), and the weights'
    codes (256, LANES) of the search, which it may replace.
    """

    @spliced
    def fill(x, w, weighted, search, packed):
        scales, q = np.empty((N_BLOCKS, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
        code = np.empty((SUPER, LANES), np.uint8)
        for j in range(N_BLOCKS):
            part = slice(BLOCK * j, BLOCK * (j + 1))
            find(x[part], w[part], weighted, search, scales[j], q)
            for e in range(BLOCK):
                for k in range(LANES):
                    code[BLOCK * j + e, k] = np.uint8(np.int32(q[e, k]) + nmax)
        finish(x, w, weighted, search, scales, code, packed)

    return super_encoder(nbytes, BLOCK, weigh, fill)


def finding_scales(scan: FindLevels, nmax: int) -> Callable[..., None]:
    """With feedback: ``find(x, w, search, scale)``, the scale (LANES,) of a block for levels ``[-nmax, nmax - 1]``."""

    @spliced
    def find(x, w, search, scale):
        q = np.empty((BLOCK, LANES), np.float32)
        scan(x, w, np.int64(nmax), search, scale, q)

    return find
