"""Mutations: of the pieces of a file, of its bytes, of the lines of a recipe."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.fuzz.seeds import Piece

_EDGES = [0, 1, 2, 3, 4, 7, 8, 9, 12, 13, 31, 32, 33, 64, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 20, (1 << 31) - 1]
_EDGES += [
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 48) + 5,
    (1 << 60) + 7,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 32,
    (1 << 64) - 1,
]
_FLOATS = [float("nan"), float("inf"), -float("inf"), -0.0, -1.0, 1e-45, 3e38]


def mutate_pieces(pieces: list[Piece], rng: Random) -> bytes:
    """A few changes to the pieces, and one time in four to the bytes as well."""
    pieces = list(pieces)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        if pieces:
            rng.choice(_PIECE_CHANGES)(pieces, rng)
    data = b"".join(p[1] for p in pieces)
    return mutate_bytes(data, rng) if rng.random() < 0.25 else data


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Flip, cut, insert, repeat."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        what = rng.randrange(6)
        if what == 0:
            del changed[at:]
        elif what == 1:
            del changed[at : at + rng.randrange(1, 9)]
        elif what == 2:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif what == 3:
            changed[at : at + 8] = struct.pack("<Q", rng.choice(_EDGES))
        elif what == 4:
            start = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + rng.randrange(1, 64)]
        elif at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_number(pieces: list[Piece], rng: Random) -> None:
    numbers = [i for i, p in enumerate(pieces) if p[0] != "raw"]
    if not numbers:
        return
    at = rng.choice(numbers)
    kind, data = pieces[at]
    if kind == "f32":
        pieces[at] = kind, struct.pack("<f", rng.choice(_FLOATS))
        return
    old = int.from_bytes(data, "little")
    size = sum(len(p[1]) for p in pieces)
    value = rng.choice(
        [*_EDGES, old + 1, old - 1, old ^ (1 << rng.randrange(8 * len(data))), size, size - 1, size // 2]
    )
    pieces[at] = kind, (value % (1 << (8 * len(data)))).to_bytes(len(data), "little")


def _set_raw(pieces: list[Piece], rng: Random) -> None:
    at = rng.randrange(len(pieces))
    kind, data = pieces[at]
    if kind == "raw":
        pieces[at] = kind, rng.choice((b"", b"\xff" * len(data), bytes(len(data)), data[:-1], data * 2, b"split.count"))


def _drop(pieces: list[Piece], rng: Random) -> None:
    at = rng.randrange(len(pieces))
    del pieces[at : at + rng.choice((1, 1, 1, 3, 9))]


def _repeat(pieces: list[Piece], rng: Random) -> None:
    start = rng.randrange(len(pieces))
    at = rng.randrange(len(pieces) + 1)
    pieces[at:at] = pieces[start : start + rng.choice((1, 1, 2, 5, 12))]


def _swap(pieces: list[Piece], rng: Random) -> None:
    a, b = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    pieces[a], pieces[b] = pieces[b], pieces[a]


_PIECE_CHANGES: list[Callable[[list[Piece], Random], None]] = [
    _set_number, _set_number, _set_number, _set_number, _set_raw, _drop, _repeat, _swap,
]  # fmt: skip

_WORDS = [
    "*a",
    "&a",
    "<<",
    "!!python/object:os.system",
    "null",
    "~",
    "[",
    "]",
    "{",
    "}",
    ":",
    "- ",
    "  ",
    "\t",
    "|",
    ">",
]
_WORDS += ["'", '"', "%", "@", "`", "\ufeff", "\x85", "\u2028", "1e999", "-1", "9" * 40, "0x10", ".nan", "true", "q4_k"]
_WORDS += [
    "(a+)+$",
    "first(1/0)",
    "every(0)",
    "last(99999999999999)",
    "../../etc/passwd",
    "é" * 9,
    "\x00",
    "? ",
    "---",
    "...",
]


def mutate_text(text: str, rng: Random) -> str:
    """Changes to the lines and words of a recipe."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(lines))
        what = rng.randrange(8)
        line = lines[at]
        column = rng.randrange(len(line) + 1)
        if what == 0:
            lines[at] = line[:column] + rng.choice(_WORDS) + line[column:]
        elif what == 1:
            lines[at] = line[:column] + rng.choice(_WORDS)
        elif what == 2:
            lines.insert(at, rng.choice(lines))
        elif what == 3 and len(lines) > 1:
            del lines[at]
        elif what == 4:
            key, colon, _ = line.partition(":")
            lines[at] = f"{key}{colon} {rng.choice(_WORDS)}"
        elif what == 5:
            lines[at] = "  " * rng.randrange(5) + line.lstrip()
        elif what == 6:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = line[:column] + line[column + rng.randrange(1, 4) :]
    return "\n".join(lines)
