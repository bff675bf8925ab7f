"""Making metadata fields."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from qxmix.container.gguf_format import ARRAY_HEAD, SCALARS, U32, U64, ValueType
from qxmix.container.model import MetadataField, Scalar
from qxmix.errors import RunError


def make_field(
    key: str, value: Scalar | Sequence[Scalar], value_type: ValueType, element_type: ValueType | None = None
) -> MetadataField:
    """Build a field as it stands in a file.

    Args:
        key: Its key.
        value: A scalar or string, or for ``ValueType.ARRAY`` the elements.
        value_type: The type of the value.
        element_type: The type of the elements of an array.

    Raises:
        RunError: the value does not fit its type.

    """
    head = _string(key) + U32.pack(value_type)
    if value_type != ValueType.ARRAY:
        assert isinstance(value, Scalar)
        return MetadataField(key, int(value_type), head + _payload(key, value, value_type), value)
    assert element_type is not None
    assert not isinstance(value, int | float)
    elements = b"".join(_payload(key, v, element_type) for v in value)
    raw = head + ARRAY_HEAD.pack(element_type, len(value)) + elements
    return MetadataField(key, int(value_type), raw, None, (int(element_type), len(value)))


def renamed(field: MetadataField, key: str) -> MetadataField:
    """The same value, byte for byte, under another key."""
    return field._replace(key=key, raw=_string(key) + field.raw[len(_string(field.key)) :])


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "replace")  # a file's name need not be text
    return U64.pack(len(data)) + data


def _payload(key: str, value: Scalar, value_type: ValueType) -> bytes:
    if value_type == ValueType.STRING:
        assert isinstance(value, str)
        return _string(value)
    try:
        return SCALARS[value_type].pack(value)
    except (struct.error, OverflowError):
        raise RunError(f"{key} would be {value}, which a field of type {value_type.name} cannot hold") from None
