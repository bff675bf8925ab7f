"""What the types make of their blocks that have a half, perhaps a minimum, and then nothing but codes: Q4_0 to Q5_1."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qxmix.quants import get
from qxmix.quants.block32.decoder import affine_value, block_decoder, five_bits, linear_value, nibbles
from qxmix.quants.block32.encoder import affine_encoder, linear_encoder
from qxmix.quants.block32.packing import store_five_bits, store_nibbles
from qxmix.quants.block32.refine import LATTICES, refined
from qxmix.quants.block32.refine_affine import refine_affine
from qxmix.quants.block32.rounding import rounding_encoder
from qxmix.quants.codec import SEARCHES, Codec, importance_decides
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.search import linear_search
from qxmix.quants.feedback.block32 import affine_feedback, linear_feedback
from qxmix.quants.jit import inlined


class Codes(NamedTuple):
    """How the codes of a block are stored."""

    bits: int
    store: Callable[..., None]
    """``(packed, at, low, high)`` as in ``packing``."""
    load: Callable[[int], Callable[..., tuple[int, int]]]
    """Of ``decoder``, given where they start."""


NIBBLES = Codes(4, store_nibbles, nibbles)
FIVE_BITS = Codes(5, store_five_bits, five_bits)


def linear_codecs(name: str, codes: Codes, *, symmetric: bool = False) -> dict[str, Codec]:
    """Build the codec of a type with a scale and as many levels below zero as from there up.

    ``symmetric``: it also has an encoder for levels that lie evenly around zero.
    """
    nbytes, nmax, store = get(name).block_nbytes, 1 << (codes.bits - 1), codes.store

    @inlined
    def pack(packed, at, scale, _minimum, low, high):
        store_half(packed, at, scale)
        store(packed, at + 2, low, high)

    encode = linear_encoder(nmax, nbytes, pack, always=True)
    rounding = rounding_encoder(2 * nmax - 1, nbytes, pack, affine=False)
    even = rounding_encoder(2 * nmax - 1, nbytes, pack, affine=False, symmetric=True) if symmetric else None
    codec = Codec(
        decode=block_decoder(nbytes, codes.load(2), linear_value(nmax)),
        encode=importance_decides(encode, without=rounding),
        searches=SEARCHES,
        version=5,
        feedback=linear_feedback(nmax, nbytes, pack),
        symmetric=even,
        search_block=linear_search(nmax),
    )
    return {name: codec}


def affine_codecs(name: str, codes: Codes) -> dict[str, Codec]:
    """Build the codec of a type with a scale and a minimum."""
    nbytes, nmax, store = get(name).block_nbytes, (1 << codes.bits) - 1, codes.store

    @inlined
    def pack(packed, at, scale, minimum, low, high):
        store_half(packed, at, scale)
        store_half(packed, at + 2, minimum)
        store(packed, at + 4, low, high)

    encode, rounding = affine_encoder(nmax, nbytes, pack), rounding_encoder(nmax, nbytes, pack, affine=True)
    codec = Codec(
        decode=block_decoder(nbytes, codes.load(4), affine_value),
        encode=refined(importance_decides(encode, without=rounding), refine_affine(nmax, nbytes, pack)),
        searches=LATTICES,
        version=4,
        feedback=affine_feedback(nmax, nbytes, pack),
    )
    return {name: codec}
