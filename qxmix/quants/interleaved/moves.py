"""Which words and bits of plain units go where in interleaved ones, found from the positions of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.interleaved.bit_fields import Bits

Pairs = Sequence[tuple[Bits, Bits]]

_WHOLE = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """How a unit of interleaved rows lies in memory.  Sizes in bytes of one row.  A unit equals itself alone."""

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
class Moves:
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
    """How many of either move whole words; parities of signs may go on top of them."""


@dataclass(frozen=True, slots=True)
class Weave:
    """The moves to the interleaved form, sorted for the kernel."""

    runs: NDArray[np.int64]
    """(n, 4) words that move as they are, nothing on top: first byte in the interleaved unit, first plain word, how
    many words follow each other there, bytes from one to the next in the interleaved unit."""
    parts: NDArray[np.uint32]
    """(n, 5) moves of bits: target and source in the list of ``sources`` and ``targets``, mask, shift left, right."""
    sources: NDArray[np.uint32]
    """Plain words that bits are taken from."""
    targets: NDArray[np.uint32]
    """First bytes of the words of the interleaved unit that bits are put into."""


def _find_runs(to: NDArray[np.int64], of: NDArray[np.int64], n_words: int) -> NDArray[np.int64]:
    """Words ``of`` that follow each other within a row of ``n_words`` and go to bytes ``to`` at equal distances."""
    runs: list[list[int]] = []
    for i in np.argsort(of):
        last = runs[-1] if runs else [0, -2, 0, 0]
        if of[i] == last[1] + last[2] and of[i] % n_words:
            step = int(to[i]) - last[0] if last[2] == 1 else last[3]
            if to[i] == last[0] + step * last[2]:
                last[2:] = last[2] + 1, step
                continue
        runs.append([int(to[i]), int(of[i]), 1, 0])
    return np.array(runs, np.int64).reshape(-1, 4)


def _sorted_weave(moves: Moves) -> Weave:
    alone = ~np.isin(moves.weave[:, 0], moves.weave[moves.n_whole :, 0])
    whole, parts = moves.weave[alone], moves.weave[~alone]
    sources, of = np.unique(parts[:, 1], return_inverse=True)
    targets, to = np.unique(parts[:, 0], return_inverse=True)
    shift = parts[:, 3].astype(np.int64) - 32
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    # A word's bits come one after the other, while it is in a register.
    order = np.argsort(to, kind="stable")
    return Weave(
        _find_runs(4 * whole[:, 0].astype(np.int64), whole[:, 1].astype(np.int64), moves.n_words),
        np.stack([len(sources) + to, of, parts[:, 2], left, right], axis=1).astype(np.uint32)[order],
        sources,
        4 * targets,
    )


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


def _moves_with(unit: Unit, lead: int) -> Moves:
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
    return Moves(lead, _n_words(unit, lead), weave, unweave, int((weave[:, 2] == _WHOLE).sum()))


@cache
def fewest_moves(unit: Unit) -> tuple[Moves, Weave]:
    """Find the moves of a unit, padded so that they are the fewest, and those to the interleaved form sorted."""
    moves = min((_moves_with(unit, lead) for lead in range(4)), key=lambda m: len(m.weave) + len(m.unweave))
    return moves, _sorted_weave(moves)
