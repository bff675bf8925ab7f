"""Libraries that were linked against glibc 2.38 where an older one runs.

All they take from it are the C23 forms of ``strtol`` and its relatives, called ``__isoc23_strtol``; the older forms do
the same but for binary literals.  So the symbol's name loses its first nine characters and its version, and the library
asks no more for that of glibc 2.38 (a weak need, in the terms of the ELF gABI's symbol versioning).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = b"__isoc23_"
_WEAK = 2
_DYNSYM, _VERNEED, _VERSYM = 11, 0x6FFFFFFE, 0x6FFFFFFF


def adapt(source: Path, target: Path) -> None:
    """Copy a 64-bit little-endian library so that glibc before 2.38 loads it."""
    data = bytearray(source.read_bytes())
    table, count = struct.unpack_from("<Q", data, 0x28)[0], struct.unpack_from("<H", data, 0x3C)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * i) for i in range(count)]
    kinds = {s[1]: s for s in sections}
    symbols, needs, versions = kinds[_DYNSYM], kinds[_VERNEED], kinds[_VERSYM]
    strings = sections[symbols[6]][4]
    for i in range(symbols[5] // 24):
        name = struct.unpack_from("<I", data, symbols[4] + 24 * i)[0]
        if data[strings + name : strings + name + len(_PREFIX)] == _PREFIX:
            struct.pack_into("<I", data, symbols[4] + 24 * i, name + len(_PREFIX))
            struct.pack_into("<H", data, versions[4] + 2 * i, 1)
    at = needs[4]
    while True:
        _, n_versions, _, first, following = struct.unpack_from("<HHIII", data, at)
        entry = at + first
        for _ in range(n_versions):
            _, flags, _, name, step = struct.unpack_from("<IHHII", data, entry)
            if data[strings + name :].startswith(b"GLIBC_2.38\0"):
                struct.pack_into("<H", data, entry + 4, flags | _WEAK)
            entry += step
        if not following:
            break
        at += following
    target.write_bytes(data)
