"""The encoders that Q4_1 and Q5_1 share: blocks of 32 weights, a scale and a minimum as halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.encoder import BLOCK, block_encoder
from qxmix.quants.common.search_affine import search_affine
from qxmix.quants.jit import kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Encoder

_0 = np.float32(0.0)
_1 = np.float32(1.0)


def encode_affine(nmax: int, block_nbytes: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder that searches scale and minimum for codes ``[0, nmax]``; it needs an importance.

    ``pack(out, at, scale, minimum, q, k)`` stores lane ``k`` as the block at ``out[at:]``.
    """

    @spliced
    def search(x, w, method, scale, minimum, q):  # noqa: ARG001 - the signature of all
        search_affine(x, w, nmax, scale, minimum, q)

    return block_encoder(block_nbytes, search, pack)


def encode_affine_rounding(nmax: int, block_nbytes: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder that only rounds between the block's extremes: ``quantize_row_q4_1_ref`` of ggml."""
    top = np.float32(nmax)

    @kernel
    def encode(rows, columns, out, method):  # noqa: ARG001 - the contract of encoders
        flat, packed = rows.ravel(), out.ravel()
        q = np.empty((BLOCK, 1), np.float32)
        for block in range(rows.size // BLOCK):
            x = flat[block * BLOCK : (block + 1) * BLOCK]
            least, most = x[0], x[0]
            for e in range(1, BLOCK):
                least, most = min(least, x[e]), max(most, x[e])
            scale = (most - least) / top
            inverse = _1 / scale if scale != _0 else _0
            for e in range(BLOCK):
                q[e, 0] = min(top, np.floor((x[e] - least) * inverse + np.float32(0.5)))
            pack(packed, block * block_nbytes, scale, least, q, 0)

    return encode
