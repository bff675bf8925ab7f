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

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qxmix.quants.codec import Codec, Encoder, ScaledEncoder
from qxmix.quants.common.reinterpret import flat_as, flattened
from qxmix.quants.common.simd import WIDTH, load, load_word, store, store_word
from qxmix.quants.interleaved.moves import fewest_moves
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Decoder, Packed, Rows
    from qxmix.quants.interleaved.moves import Moves, Unit

RowsEncoder = TypeVar("RowsEncoder", Encoder, ScaledEncoder)

_APART = 72
"""Bytes between rows in scratch memory."""

STEP_ROWS = 64
"""Rows that are decoded at once; their plain form is kept that long."""

_TINY = np.float32(1e-9)
_0 = np.float32(0.0)


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


@inlined
def _weave_runs(plain, stride, n_lanes, runs, starts, out, at, unit):
    """Copy whole words of ``n_lanes`` units, ``stride`` bytes apart in ``plain``, to those at ``at`` in ``out``."""
    for r in range(runs.shape[0]):
        to, of, n, step = at + runs[r, 0], starts[runs[r, 1]], runs[r, 2], runs[r, 3]
        for j in range(n_lanes):
            if n == 1:
                store_word(out, to + j * unit, load_word(plain, of + j * stride))
            else:
                for i in range(n):
                    store_word(out, to + j * unit + i * step, load_word(plain, of + j * stride + 4 * i))


@inlined
def _weave_bits(words, parts):
    """Apply moves of bits to ``words`` (n, WIDTH): a lane is a unit, so one instruction moves the bits of them all."""
    for m in range(parts.shape[0]):
        to, of = WIDTH * np.int64(parts[m, 0]), WIDTH * np.int64(parts[m, 1])
        bits = ((load(words, of) & parts[m, 2]) << parts[m, 3]) >> parts[m, 4]
        store(words, to, load(words, to) ^ bits)


@kernel
def _weave(data, shape, runs, parts, sources, targets):
    """Turn plain rows ``data`` (n, row_nbytes) into interleaved ones, in place.

    ``shape`` is what ``_shape`` tells; the rest are the fields of ``Weave``.  Words of the padded plain form are read
    where they stand: what they hold of their neighbours no move takes.
    """
    n_rows, nbytes, meta, lead, n_words = shape[0], shape[1], shape[2], shape[3], shape[4]
    row_nbytes, flat = data.shape[1], flattened(data)
    n_units, n_sources = (row_nbytes - meta) // nbytes, len(sources)
    # A word more on either side; and rows of 4096 bytes would all lie in the same few lines of the cache.
    stride = row_nbytes + _APART
    plain, words = np.zeros(n_rows * stride + 8, np.uint8), np.zeros((n_sources + len(targets), WIDTH), np.uint32)
    starts = np.empty(n_rows * n_words, np.int64)
    for s in range(len(starts)):
        starts[s] = 4 + s // n_words * stride + meta + 4 * (s % n_words) - lead
    for first in range(0, data.shape[0], n_rows):
        at = first * row_nbytes
        for k in range(n_rows):
            _copy(flat, at + k * row_nbytes, plain, 4 + k * stride, row_nbytes)
        for k in range(n_rows):
            _copy(plain, 4 + k * stride, flat, at + k * meta, meta)
        at += n_rows * meta
        for b in range(0, n_units, WIDTH):
            n_lanes, unit = min(WIDTH, n_units - b), n_rows * nbytes
            _weave_runs(plain[b * nbytes :], nbytes, n_lanes, runs, starts, flat, at + b * unit, unit)
            for s in range(n_sources):
                for j in range(n_lanes):
                    words[s, j] = load_word(plain, starts[sources[s]] + (b + j) * nbytes)
            words[n_sources:] = np.uint32(0)
            _weave_bits(words, parts)
            for t in range(len(targets)):
                for j in range(n_lanes):
                    store_word(flat, at + (b + j) * unit + np.int64(targets[t]), words[n_sources + t, j])


@kernel
def _unweave(packed, data, shape, moves, n_whole):
    """Turn interleaved rows into plain ``data`` (n, row_nbytes); ``shape`` as for ``_weave``."""
    n_rows, nbytes, meta, lead, n_words = shape[0], shape[1], shape[2], shape[3], shape[4]
    row_nbytes, flat, to = data.shape[1], flattened(packed), flattened(data)
    n_units = (row_nbytes - meta) // nbytes
    moves = moves.copy()
    for m in range(moves.shape[0]):  # the words of all units of a row lie one after the other in ``plain``
        moves[m, 0] = moves[m, 0] // np.uint32(n_words) * np.uint32(n_words * n_units) + moves[m, 0] % np.uint32(
            n_words
        )
    plain, woven = np.empty(n_rows * n_units * n_words, np.uint32), np.empty(n_rows * nbytes // 4, np.uint32)
    plain_bytes, woven_bytes = flat_as(plain, np.uint8), flat_as(woven, np.uint8)
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


def _shape(unit: Unit, moves: Moves) -> NDArray[np.int64]:
    """Rows of a group, bytes of a row's part of a unit, meta bytes, ``lead``, words of a part.

    An array, as kernels need numba for a tuple, compiled or not: 1 s in every process.
    """
    return np.array([unit.n_rows, unit.nbytes, unit.meta_nbytes, moves.lead, moves.n_words], np.int64)


def _encode_cleaned(
    encode: Callable[..., None], block: int, rows: Rows, columns: Columns, packed: Packed, given: float
) -> None:
    """Encode rows with importances that are 1e-9 in degenerate blocks.

    ik_llama.cpp does that for its interleaved types and not for their plain types.  It matters where a block is all but
    zero: its bytes differ, its weights hardly.
    """
    found = np.empty((len(rows), len(columns) // block), np.uint8)
    _find_degenerate(rows, columns, block, found)
    if not found.any():
        encode(rows, columns, packed, given)
        return
    # Rows in a row with the same degenerate blocks go together.
    bounds = [0, *(np.flatnonzero((found[1:] != found[:-1]).any(axis=1)) + 1), len(rows)]
    for first, last in pairwise(bounds):
        cleaned = columns.copy()
        cleaned.reshape(-1, block)[found[first] != 0] = _TINY
        encode(rows[first:last], cleaned, packed[first:last], given)


def interleaved_decoder(plain: Decoder, unit: Unit) -> Decoder:
    """Build the decoder of an interleaved type from that of rows in their plain form."""

    def decode(packed: Packed, rows: Rows) -> None:
        moves, _ = fewest_moves(unit)
        shape = _shape(unit, moves)
        unwoven = np.empty((min(STEP_ROWS, len(rows)), packed.shape[1]), np.uint8)
        for first in range(0, len(rows), STEP_ROWS):
            part = packed[first : first + STEP_ROWS]
            data = unwoven[: len(part)]
            _unweave(part, data, shape, moves.unweave, moves.n_whole)
            plain(data, rows[first : first + STEP_ROWS])

    return decode


def interleaved(base: Codec, unit: Unit, *, clean: int = 0) -> Codec:
    """Build the codec of an interleaved type from that of its plain type, whose rows have the same size.

    ``clean`` is the size of the blocks in which degenerate importances are replaced; 0 where they never are.
    """

    def weaving(plain: RowsEncoder) -> RowsEncoder:
        def encode(rows: Rows, columns: Columns, packed: Packed, given: Any) -> None:
            if clean and len(columns):
                _encode_cleaned(plain, clean, rows, columns, packed, given)
            else:
                plain(rows, columns, packed, given)
            moves, weave = fewest_moves(unit)
            _weave(packed, _shape(unit, moves), weave.runs, weave.parts, weave.sources, weave.targets)

        return encode

    decode = interleaved_decoder(base.decode, unit)
    scaled = None if base.scaled is None else weaving(base.scaled)
    return Codec(
        decode=decode, encode=weaving(base.encode), searches=base.searches, version=base.version, scaled=scaled
    )
