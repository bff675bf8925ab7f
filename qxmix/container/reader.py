"""A cursor that cannot leave the file, and the metadata fields read with it.

The header is hostile until proven otherwise: every count and length is compared with what is left of the file before
anything of that size is made.  Array payloads are stepped over, not decoded: the 258,560 strings of a DeepSeek
vocabulary and its merges take 15 ms.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import repeat

from qxmix.container.gguf_format import ARRAY_HEAD, MAX_ARRAY_DEPTH, SCALARS, U32, U64, ValueType
from qxmix.container.model import MetadataField, Scalar, field_of
from qxmix.container.source import FileBytes, Given, show

_WINDOW_NBYTES = 1 << 20
"""Bytes that are read at a time."""
MIN_FIELD_NBYTES = 8 + 1 + 4 + 1
"""Bytes of the smallest field: length and one byte of key, value type, one byte of value."""


class MoreNeeded(Exception):  # noqa: N818 - no error: whoever reads a file piece by piece reads on
    """The header goes on behind the part of the file that is at hand."""


class Cursor:
    """A position in a file that cannot be moved past its end.

    The file is read a window at a time, so that a header costs no more than its own size.
    """

    __slots__ = ("_base", "_window", "data", "end", "given", "pos")

    def __init__(self, given: Given, data: FileBytes | bytes, nbytes: int | None = None) -> None:
        """Start at the first byte of ``data``: the whole file, or the start of one of ``nbytes`` bytes."""
        self.given, self.data, self.pos, self.end = given, data, 0, len(data) if nbytes is None else nbytes
        self._base, self._window = 0, data if isinstance(data, bytes) else b""

    def window(self, start: int, nbytes: int) -> tuple[bytes, int]:
        """Bytes that hold ``start .. start + nbytes``, as far as the file does, and where ``start`` is in them."""
        if not self._base <= start <= start + nbytes <= self._base + len(self._window):
            self._base, self._window = start, self.data[start : start + max(nbytes, _WINDOW_NBYTES)]
        return self._window, start - self._base

    def between(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to ``stop``, both of which the cursor has passed."""
        if self._base <= start <= stop <= self._base + len(self._window):
            return self._window[start - self._base : stop - self._base]
        return self.data[start:stop]

    def take(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        """Unpack ``layout`` and move behind it."""
        start = self.pos
        self.skip(layout.size, what)
        return layout.unpack_from(*self.window(start, layout.size))

    def skip(self, nbytes: int, what: str) -> None:
        """Move on by ``nbytes``.

        Raises:
            ModelFileError: the file ends before that; ``what`` says in what.

        """
        if nbytes > self.end - self.pos:
            left = self.end - self.pos
            raise self.given.cut_off(f"is cut off or damaged: {what} takes {nbytes} bytes and {left} are left")
        self.pos += nbytes
        if self.pos > len(self.data):
            raise MoreNeeded

    def string(self, what: str, length: struct.Struct = U64) -> bytes:
        """Read the bytes of a string; ``length`` is how its length is stored."""
        (n,) = self.take(length, what)
        start = self.pos
        self.skip(n, what)
        window, at = self.window(start, n)
        return window[at : at + n]

    def name(self, what: str, length: struct.Struct = U64) -> str:
        """Read a key or tensor name: UTF-8, not empty, and nothing in it that a terminal would obey."""
        raw = self.string(what, length)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise self.given.damaged(f"{what} is not UTF-8: {show(repr(raw[:40]))}") from error
        if not text or not text.isprintable():
            raise self.given.damaged(f"{what} is empty or has control characters: {show(text)}")
        return text


def read_metadata(cursor: Cursor, n_fields: int) -> tuple[MetadataField, ...]:
    """Read ``n_fields`` fields; the cursor ends up behind them.

    Raises:
        ModelFileError: a key is twice there, or a field is damaged or cut off.

    """
    fields: dict[str, MetadataField] = {}
    for index in range(n_fields):
        start = cursor.pos
        key = cursor.name(f"the key of metadata field {index}")
        if key in fields:
            raise cursor.given.damaged(f"has the metadata key {show(key)} twice")
        (value_type,) = cursor.take(U32, f"metadata field {show(key)}")
        value, array = _read_value(cursor, key, value_type)
        fields[key] = MetadataField(key, value_type, cursor.between(start, cursor.pos), value, array)
    return tuple(fields.values())


def _read_value(cursor: Cursor, key: str, value_type: int) -> tuple[Scalar | None, tuple[int, int] | None]:
    """Value and array description of a field; the cursor ends up behind it."""
    what = f"metadata field {show(key)}"
    if value_type == ValueType.STRING:
        return cursor.string(what).decode("utf-8", "replace"), None
    if value_type == ValueType.ARRAY:
        return None, _skip_array(cursor, what, 1)
    scalar = SCALARS.get(value_type)
    if scalar is None:
        raise cursor.given.damaged(f"{what} has value type {value_type}, which GGUF does not define")
    return cursor.take(scalar, what)[0], None


def _skip_array(cursor: Cursor, what: str, depth: int) -> tuple[int, int]:
    """Step over an array; returns its element type and count."""
    element_type, count = cursor.take(ARRAY_HEAD, what)
    if depth > MAX_ARRAY_DEPTH:
        raise cursor.given.damaged(f"{what} nests arrays more than {MAX_ARRAY_DEPTH} deep")
    scalar = SCALARS.get(element_type)
    if scalar is not None:
        cursor.skip(count * scalar.size, what)
    elif element_type == ValueType.STRING:
        _skip_strings(cursor, count, what)
    elif element_type == ValueType.ARRAY:
        _check_room(cursor, count, ARRAY_HEAD.size, what)
        for _ in repeat(None, count):
            _skip_array(cursor, what, depth + 1)
    else:
        raise cursor.given.damaged(f"{what} is an array of value type {element_type}, which GGUF does not define")
    return element_type, count


def _skip_strings(cursor: Cursor, count: int, what: str) -> None:
    """Step over ``count`` strings.

    Lengths are unsigned, so the position only grows and ``unpack_from`` itself refuses to read past the end: one check
    behind the loop is enough, which makes the loop 55 ns per string.
    """
    _check_room(cursor, count, U64.size, what)
    pos, left, unpack_from = cursor.pos, count, U64.unpack_from
    while left and pos + U64.size <= cursor.end:
        if pos + U64.size > len(cursor.data):
            raise MoreNeeded
        window, at = cursor.window(pos, U64.size)
        pos -= at
        done = 0
        try:
            for done in range(left):  # noqa: B007 - looked at when the window ends
                at += unpack_from(window, at)[0] + 8
            left = 0
        except (struct.error, OverflowError):
            left -= done
        pos += at
    cursor.skip((max(pos, cursor.end + 1) if left else pos) - cursor.pos, what)


def _check_room(cursor: Cursor, count: int, least: int, what: str) -> None:
    if count * least > cursor.end - cursor.pos:
        left = cursor.end - cursor.pos
        raise cursor.given.cut_off(f"is cut off or damaged: {what} claims {count} elements and {left} bytes are left")


def read_strings(metadata: Sequence[MetadataField], key: str) -> tuple[str, ...]:
    """The strings of an array, or the one string that stands in its place; none where there is neither."""
    field = field_of(metadata, key)
    if field is None or field.array is None or field.array[0] != ValueType.STRING:
        return (field.value,) if field is not None and isinstance(field.value, str) else ()
    pos, strings = field.elements_at, []
    for _ in range(field.array[1]):
        (n,) = U64.unpack_from(field.raw, pos)
        pos += U64.size + n
        strings.append(field.raw[pos - n : pos].decode("utf-8", "replace"))
    return tuple(strings)


def read_numbers(field: MetadataField) -> tuple[int | float, ...]:
    """The elements of a field that is an array of numbers or flags; empty where it is another one."""
    scalar = SCALARS.get(field.array[0]) if field.array is not None else None
    if field.array is None or scalar is None:
        return ()
    return tuple(scalar.unpack_from(field.raw, field.elements_at + i * scalar.size)[0] for i in range(field.array[1]))
