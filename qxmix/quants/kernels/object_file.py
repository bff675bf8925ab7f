"""What an object file of numba holds and asks of its surroundings: read from the file itself, 64-bit ELF.

numba compiles two functions for a kernel: one that the kernel is, and a wrapper that Python calls.  Called without
numba the wrapper is dead, and what it alone needs (Python's API, parts of numba's runtime) need not be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MAGIC = b"\x7fELF\x02\x01"
_WRAPPERS = ("_ZN7cpython", "cfunc.")
_RELA, _SYMTAB = 4, 2
_HEADER = np.dtype(
    [("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"), ("offset", "<u8"), ("size", "<u8"),
     ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entry", "<u8")]
)  # fmt: skip
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("at", "<u8"), ("size", "<u8")]
)
_RELOCATION = np.dtype([("at", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])


class ObjectFile(NamedTuple):
    """A file's tables."""

    code: bytes
    machine: int
    """What processors it is for, as ELF counts them."""
    sections: NDArray[np.void]
    symbols: NDArray[np.void]
    names: list[str]
    """Of the symbols."""

    def relocations(self) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Places in a section, by its index, that an address is to be written to."""
        for section in self.sections[self.sections["type"] == _RELA]:
            yield int(section["info"]), _records(self.code, section, _RELOCATION)


def read(code: bytes) -> ObjectFile | None:
    """The tables of an object file; None for another format than 64-bit little-endian ELF."""
    if not code.startswith(_MAGIC):
        return None
    (start,) = np.frombuffer(code, "<u8", 1, 0x28)
    entry, n_sections = np.frombuffer(code, "<u2", 2, 0x3A)
    assert entry == _HEADER.itemsize
    sections = np.frombuffer(code, _HEADER, int(n_sections), int(start))
    table = sections[sections["type"] == _SYMTAB][0]
    symbols, text = _records(code, table, _SYMBOL), int(sections["offset"][table["link"]])
    names = [_text(code, text + at) for at in symbols["name"].tolist()]
    return ObjectFile(code, int.from_bytes(code[0x12:0x14], "little"), sections, symbols, names)


class Needs(NamedTuple):
    """Names that an object file uses and does not define."""

    live: frozenset[str]
    """Used by the kernel."""
    dead: frozenset[str]
    """Used by the wrapper alone."""


def needs(code: bytes) -> Needs | None:
    """What a compiled kernel needs; None for another format than 64-bit little-endian ELF.

    Whatever is not inside the wrapper counts as the kernel's.  A call within a section leaves no trace in the file,
    but the wrapper is called by nothing in it.
    """
    file = read(code)
    if file is None:
        return None
    symbols, names = file.symbols, file.names
    wrappers = [s for s, name in zip(symbols, names, strict=True) if name.startswith(_WRAPPERS)]
    live, every = set(), set()
    for section, relocations in file.relocations():
        for relocation in relocations:
            used = relocation["symbol"]
            if symbols[used]["section"] or not names[used]:
                continue
            every.add(names[used])
            if not any(_within(relocation["at"], section, wrapper) for wrapper in wrappers):
                live.add(names[used])
    return Needs(frozenset(live), frozenset(every - live))


def _records(code: bytes, section: np.void, kind: np.dtype[np.void]) -> NDArray[np.void]:
    return np.frombuffer(code, kind, int(section["size"]) // kind.itemsize, int(section["offset"]))


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _within(at: int, section: int, function: np.void) -> bool:
    return bool(section == function["section"] and function["at"] <= at < function["at"] + function["size"])
