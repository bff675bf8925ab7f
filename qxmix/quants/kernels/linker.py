"""Object files put into memory and given their addresses, without LLVM, whose library alone takes 50 ms to load.

It is possible because LLVM makes code that is to run at once so that it may lie anywhere: whatever is outside of a
section is reached by an address of 64 bits in the code.  So all there is to do is to lay the sections out and to write
such addresses into them; a file that asks for more (another processor, data that are written to) is left to LLVM.

::

    0                        ...                      one mapping, read and written, then read and run
    +------------------+-----------+------------------+------------------+--------+
    | .ltext of file 1 | .lrodata  | .ltext of file 2 | ...              | common |
    +------------------+-----------+------------------+------------------+--------+
         |  movabs $address  ----^          ^
         +----------------------------------+
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from qxmix import system
from qxmix.quants.kernels.object_file import ObjectFile, read

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_X86_64, _ADDRESS = 62, 1
"""ELF's numbers of the processor, and of the only relocation that is done: ``R_X86_64_64``."""
_NO_BITS, _UNWIND = 8, 0x70000001
"""Types of sections: without contents, and how to unwind the stack, which nothing does."""
_WRITE, _ALLOCATED = 1, 2
_UNDEFINED, _RESERVED, _COMMON = 0, 0xFF00, 0xFFF2
"""Where a symbol is that is in no section: elsewhere, special, or in memory of its own that is zero."""
_ADDRESS_OF = struct.Struct("<Q")


class Linked(NamedTuple):
    """Code that can be called, as long as its memory is held."""

    address: int
    memory: mmap.mmap


class _Place(NamedTuple):
    """Where a symbol is."""

    at: int
    """Bytes from the start of the mapping, or an address in the process."""
    inside: bool


class _Layout:
    """Sections of several files one behind the other."""

    def __init__(self, files: Sequence[ObjectFile]) -> None:
        self.sections: list[dict[int, int]] = [{} for _ in files]
        """Where each section that is loaded starts, by its index in its file."""
        self.nbytes = 0
        self.pieces: list[tuple[int, bytes]] = []
        for file, starts in zip(files, self.sections, strict=True):
            for index, section in enumerate(file.sections):
                if section["flags"] & _ALLOCATED and section["size"] and section["type"] != _UNWIND:
                    at, nbytes = int(section["offset"]), int(section["size"])
                    starts[index] = self.room(nbytes, int(section["align"]))
                    self.pieces.append((starts[index], file.code[at : at + nbytes]))

    def room(self, nbytes: int, align: int) -> int:
        """Where so many bytes more start."""
        start = -(-self.nbytes // max(align, 1)) * max(align, 1)
        self.nbytes = start + nbytes
        return start


def link(codes: Sequence[bytes], name: str, library: Collection[str]) -> Linked | None:
    """Load object files together.

    Args:
        codes: Their contents.
        name: The function of which the address is wanted.
        library: Names of functions of the process that they may call.

    Returns:
        The function; None where LLVM is needed.

    """
    files = [file for file in map(read, codes) if file is not None and file.machine == _X86_64]
    if len(files) < len(codes) or not system.LINUX or any(map(_asks_for_more, files)):
        return None
    layout = _Layout(files)
    places = _placed(files, layout, library)
    fixed: list[tuple[int, int]] = []
    absolute: list[tuple[int, int]] = []
    for file, starts, found in zip(files, layout.sections, places, strict=True):
        for section, relocations in file.relocations():
            if section not in starts:
                continue
            for at, kind, symbol, addend in relocations.tolist():
                place = found[symbol]
                if place is None or kind != _ADDRESS:
                    return None
                (fixed if place.inside else absolute).append((starts[section] + at, place.at + addend))
    start = _global(files, places).get(name)
    return None if start is None else _mapped(layout, fixed, absolute, start.at)


def _asks_for_more(file: ObjectFile) -> bool:
    loaded = file.sections[(file.sections["flags"] & _ALLOCATED != 0) & (file.sections["size"] > 0)]
    return bool((loaded["flags"] & _WRITE).any() or (loaded["type"] == _NO_BITS).any())


def _placed(files: Sequence[ObjectFile], layout: _Layout, library: Collection[str]) -> list[list[_Place | None]]:
    """Where each symbol of each file is; None for one that is nowhere, which may be one that nothing asks for."""
    places: list[list[_Place | None]] = []
    for file, starts in zip(files, layout.sections, strict=True):
        found: list[_Place | None] = []
        for section, at, nbytes in file.symbols[["section", "at", "size"]].tolist():
            if section == _COMMON:
                found.append(_Place(layout.room(nbytes, at), inside=True))
            else:
                found.append(_Place(starts[section] + at, inside=True) if section in starts else None)
        places.append(found)
    known = _global(files, places)
    for file, found in zip(files, places, strict=True):
        for index, section in enumerate(file.symbols["section"].tolist()):
            if section == _UNDEFINED and file.names[index]:
                found[index] = known.get(file.names[index]) or _of_process(file.names[index], library)
    return places


def _global(files: Sequence[ObjectFile], places: list[list[_Place | None]]) -> dict[str, _Place]:
    """What the files define for each other."""
    return {
        name: place
        for file, found in zip(files, places, strict=True)
        for name, place, info in zip(file.names, found, file.symbols["info"].tolist(), strict=True)
        if place is not None and place.inside and info >> 4
    }


def _of_process(name: str, library: Collection[str]) -> _Place | None:
    found = getattr(_process(), name, None) if name in library else None
    address = None if found is None else ctypes.cast(found, ctypes.c_void_p).value
    return None if address is None else _Place(address, inside=False)


@cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _mapped(
    layout: _Layout, fixed: Sequence[tuple[int, int]], absolute: Sequence[tuple[int, int]], start: int
) -> Linked | None:
    """The sections in memory that may be run; None where the system allows none."""
    memory = mmap.mmap(-1, layout.nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for at, piece in layout.pieces:
        memory[at : at + len(piece)] = piece
    for at, value in fixed:
        _ADDRESS_OF.pack_into(memory, at, base + value)
    for at, value in absolute:
        _ADDRESS_OF.pack_into(memory, at, value)
    allow = _process().mprotect
    allow.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if allow(base, layout.nbytes, mmap.PROT_READ | mmap.PROT_EXEC):
        return None
    return Linked(base + start, memory)
