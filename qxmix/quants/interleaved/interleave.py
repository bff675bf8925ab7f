"""Interleaved types: rows encoded as a plain type, then the bits of a group of 4, 8 or 16 rows permuted.

Layout of a row group, R rows of n units; a unit is a block, or a few where blocks are small::

    0              R * meta                     + R * unit
    +--------------+----------------------------+----------------------------+---
    | row scales   | unit 0 of all rows,        | unit 1 of all rows         | ...
    | of rows 0 .. | the type's order of bits   |                            |
    +--------------+----------------------------+----------------------------+---

A type contributes nothing but that order: pairs of fields as ``bit_fields`` lists them, where a bit stands in the plain
unit of row k and where in the interleaved one.  From these follow the *moves*, in both directions: 32-bit words, masked
and shifted, that are added into words of the target without carry.  One compiled kernel applies the moves of any type,
so that an interleaved type compiles nothing beyond its plain type.  Most moves carry 16 to 32 bits.

Signs of the grid types are stored as running parities ("scrambled"): bit b of seven is the parity of the bits 0 .. b.
That is linear, so it is more moves and nothing else.

Source: the ``repack_...`` functions of ik_llama.cpp (iqk_quantize.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Packed, Rows
    from qxmix.quants.interleaved.bit_fields import Bits

    Pairs = Sequence[tuple[Bits, Bits]]

STEP_ROWS = 64
"""Rows that are decoded at once; their plain form is kept that long."""

_WHOLE = np.uint32(0xFFFFFFFF)
_TINY = np.float32(1e-9)
_0 = np.float32(0.0)


@dataclass(frozen=True, slots=True)
class Unit:
    """How a unit of interleaved rows lies in memory.  Sizes in bytes of one row."""

    n_rows: int
    """Rows of a group."""
    nbytes: int
    """Bytes of a row's part of a unit."""
    pairs: Pairs
    """Fields of the plain unit (n, width) and of the interleaved one (n_rows, n, width); together all of its bits."""
    scrambled: Bits | None = None
    """Positions in the interleaved unit, (..., 7), of signs that are stored as running parities."""
    meta_nbytes: int = 0
    """Row scales in front of the units."""


@dataclass(frozen=True, slots=True)
class _Moves:
    """Moves between a unit's plain form, padded so that most fields stand at whole words, and its interleaved form.

    (n_moves, 4) each: target word, source word, mask of the source's bits, 32 + shift to the left; whole words first.
    """

    lead: int
    """Bytes in front of each row's part in the padded form."""
    n_words: int
    """Words of each row's part in the padded form."""
    weave: NDArray[np.uint32]
    """Moves to the interleaved form."""
    unweave: NDArray[np.uint32]
    """Moves to the plain form."""
    n_whole: int
    """How many of either move whole words, which have no other move."""


def _find_moves(to: Bits, of: Bits) -> NDArray[np.uint32]:
    """Moves of bits ``of`` to bits ``to``; those between the same two words by the same distance are one."""
    shift = 32 + to % 32 - of % 32
    key = (shift << 40) | (to // 32 << 20) | (of // 32)
    keys, which = np.unique(key, return_inverse=True)
    masks = np.zeros(len(keys), np.uint32)
    np.bitwise_or.at(masks, which, np.uint32(1) << (of % 32).astype(np.uint32))
    word = (1 << 20) - 1
    moves = np.stack([keys >> 20 & word, keys & word, masks, keys >> 40], axis=1).astype(np.uint32)
    return moves[np.argsort(masks != _WHOLE, kind="stable")]


def _n_words(unit: Unit, lead: int) -> int:
    return -(-(lead + unit.nbytes) // 4)


def _bit_pairs(unit: Unit, lead: int) -> tuple[Bits, Bits]:
    """Each bit of the unit in the padded plain form and in the interleaved form."""
    rows = 8 * (4 * _n_words(unit, lead) * np.arange(unit.n_rows) + lead)[:, None]
    plain = np.concatenate([(rows + one.ravel()).ravel() for one, _ in unit.pairs])
    woven = np.concatenate([many.ravel() for _, many in unit.pairs])
    return plain, woven


def _moves_with(unit: Unit, lead: int) -> _Moves:
    plain, woven = _bit_pairs(unit, lead)
    to, of, back_to, back_of = [woven], [plain], [plain], [woven]
    if unit.scrambled is not None:
        plain_of = np.empty(8 * unit.nbytes * unit.n_rows, np.int64)
        plain_of[woven] = plain
        signs = unit.scrambled.reshape(-1, 7)
        for b in range(1, 7):
            for earlier in range(b):
                to.append(signs[:, b])
                of.append(plain_of[signs[:, earlier]])
            back_to.append(plain_of[signs[:, b]])
            back_of.append(signs[:, b - 1])
    weave = _find_moves(np.concatenate(to), np.concatenate(of))
    unweave = _find_moves(np.concatenate(back_to), np.concatenate(back_of))
    return _Moves(lead, _n_words(unit, lead), weave, unweave, int((weave[:, 2] == _WHOLE).sum()))


def _fewest_moves(unit: Unit) -> _Moves:
    return min((_moves_with(unit, lead) for lead in range(4)), key=lambda m: len(m.weave) + len(m.unweave))


@inlined
def _apply(moves, n_whole, source, of, target, to):
    """Add what the moves bring from ``source[of:]`` to ``target[to:]``, which is zero but where whole words go."""
    of, to = np.uint32(of), np.uint32(to)
    for m in range(n_whole):
        target[moves[m, 0] + to] = source[moves[m, 1] + of]
    for m in range(n_whole, moves.shape[0]):
        bits = np.uint64(source[moves[m, 1] + of] & moves[m, 2])
        target[moves[m, 0] + to] ^= np.uint32((bits << np.uint64(moves[m, 3])) >> np.uint64(32))


@inlined
def _copy(source, of, target, to, n_bytes):
    for i in range(np.uint64(n_bytes)):
        target[np.uint64(to) + i] = source[np.uint64(of) + i]


@kernel
def _spread(moves, column, n_words, stride):
    """Moves whose words in ``column`` count rows of ``stride`` words instead of ``n_words``."""
    out = moves.copy()
    for m in range(moves.shape[0]):
        word = moves[m, column]
        out[m, column] = word // np.uint32(n_words) * np.uint32(stride) + word % np.uint32(n_words)
    return out


@kernel
def _weave(data, n_rows, nbytes, meta, lead, n_words, moves, n_whole):
    """Turn plain rows ``data`` (n, row_nbytes) into interleaved ones, in place."""
    row_nbytes, flat = data.shape[1], data.ravel()
    n_units = (row_nbytes - meta) // nbytes
    moves = _spread(moves, 1, n_words, n_words * n_units)
    plain, scales = np.zeros(n_rows * n_units * n_words, np.uint32), np.empty(n_rows * meta, np.uint8)
    woven = np.empty(n_rows * nbytes // 4, np.uint32)
    plain_bytes, woven_bytes = plain.view(np.uint8), woven.view(np.uint8)
    for first in range(0, data.shape[0], n_rows):
        for k in range(n_rows):
            at = (first + k) * row_nbytes
            _copy(flat, at, scales, k * meta, meta)
            if nbytes == 4 * n_words:
                _copy(flat, at + meta, plain_bytes, nbytes * k * n_units, nbytes * n_units)
                continue
            for b in range(n_units):
                _copy(flat, at + meta + b * nbytes, plain_bytes, 4 * n_words * (k * n_units + b) + lead, nbytes)
        at = first * row_nbytes
        _copy(scales, 0, flat, at, n_rows * meta)
        for b in range(n_units):
            woven[:] = np.uint32(0)
            _apply(moves, n_whole, plain, b * n_words, woven, 0)
            _copy(woven_bytes, 0, flat, at + n_rows * (meta + b * nbytes), n_rows * nbytes)


@kernel
def _unweave(packed, data, n_rows, nbytes, meta, lead, n_words, moves, n_whole):
    """Turn interleaved rows into plain ``data`` (n, row_nbytes)."""
    row_nbytes, flat, to = data.shape[1], packed.ravel(), data.ravel()
    n_units = (row_nbytes - meta) // nbytes
    moves = _spread(moves, 0, n_words, n_words * n_units)
    plain, woven = np.empty(n_rows * n_units * n_words, np.uint32), np.empty(n_rows * nbytes // 4, np.uint32)
    plain_bytes, woven_bytes = plain.view(np.uint8), woven.view(np.uint8)
    for first in range(0, data.shape[0], n_rows):
        plain[:] = np.uint32(0)
        for b in range(n_units):
            _copy(flat, first * row_nbytes + n_rows * (meta + b * nbytes), woven_bytes, 0, n_rows * nbytes)
            _apply(moves, n_whole, woven, 0, plain, b * n_words)
        for k in range(n_rows):
            at = (first + k) * row_nbytes
            _copy(flat, first * row_nbytes + k * meta, to, at, meta)
            for b in range(n_units):
                _copy(plain_bytes, 4 * n_words * (k * n_units + b) + lead, to, at + meta + b * nbytes, nbytes)


@kernel
def _find_degenerate(rows, columns, block, found):
    """Set ``found`` (n_rows, n_blocks) where a block's weights or importances vanish, or all their products.

    The sums are the reference's, float32 in element order.
    """
    least = np.float32(block) * (_TINY * _TINY)
    for r in range(rows.shape[0]):
        for b in range(found.shape[1]):
            ww, xx, wx = _0, _0, _0
            for c in range(b * block, (b + 1) * block):
                w, x = columns[c], rows[r, c]
                ww += w * w
                xx += x * x
                wx += w * abs(x)
            found[r, b] = not ((ww > least) & (xx > least) & (wx > least))


def _encode_cleaned(base: Codec, block: int, rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
    """Encode rows with importances that are 1e-9 in degenerate blocks.

    ik_llama.cpp does that for its interleaved types and not for their plain types.  It matters where a block is all but
    zero: its bytes differ, its weights hardly.
    """
    assert base.encode is not None
    found = np.empty((len(rows), len(columns) // block), np.bool_)
    _find_degenerate(rows, columns, block, found)
    if not found.any():
        base.encode(rows, columns, packed, search)
        return
    # Rows in a row with the same degenerate blocks go together.
    bounds = [0, *(np.flatnonzero((found[1:] != found[:-1]).any(axis=1)) + 1), len(rows)]
    for first, last in pairwise(bounds):
        cleaned = columns.copy()
        cleaned.reshape(-1, block)[found[first]] = _TINY
        base.encode(rows[first:last], cleaned, packed[first:last], search)


def interleaved(base: Codec, unit: Unit, *, clean: int = 0) -> Codec:
    """Build the codec of an interleaved type from that of its plain type, whose rows have the same size.

    ``clean`` is the size of the blocks in which degenerate importances are replaced; 0 where they never are.
    """
    plain_encode = base.encode
    assert plain_encode is not None
    moves_of_unit = cache(_fewest_moves.__get__(unit))

    def encode(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
        if clean and len(columns):
            _encode_cleaned(base, clean, rows, columns, packed, search)
        else:
            plain_encode(rows, columns, packed, search)
        moves = moves_of_unit()
        shape = unit.n_rows, unit.nbytes, unit.meta_nbytes, moves.lead, moves.n_words
        _weave(packed, *shape, moves.weave, moves.n_whole)

    def decode(packed: Packed, rows: Rows) -> None:
        moves = moves_of_unit()
        shape = unit.n_rows, unit.nbytes, unit.meta_nbytes, moves.lead, moves.n_words
        plain = np.empty((min(STEP_ROWS, len(rows)), packed.shape[1]), np.uint8)
        for first in range(0, len(rows), STEP_ROWS):
            part = packed[first : first + STEP_ROWS]
            data = plain[: len(part)]
            _unweave(part, data, *shape, moves.unweave, moves.n_whole)
            base.decode(data, rows[first : first + STEP_ROWS])

    return Codec(decode=decode, encode=encode, searches=base.searches, version=base.version)
