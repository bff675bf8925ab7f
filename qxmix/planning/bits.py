"""Sets of tensors as whole numbers: bit ``i`` stands for tensor ``i`` of the model.

A rule takes a set out of those that are left, and a set of a thousand tensors is 128 bytes: intersecting two costs less
than asking a single tensor a single question.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

Tensors = int
"""A set of tensors."""

_FEW, _ONE = 8, ord("1")


def from_flags(flags: Sequence[object]) -> Tensors:
    """The tensors whose flags are true."""
    return int("".join("1" if flag else "0" for flag in reversed(flags)) or "0", 2)


def from_indices(indices: Sequence[int]) -> Tensors:
    """The tensors of these indices."""
    if len(indices) <= _FEW:
        found = 0
        for index in indices:
            found |= 1 << index
        return found
    digits = bytearray(b"0") * (max(indices) + 1)
    for index in indices:
        digits[-1 - index] = _ONE
    return int(digits, 2)


def by_value(values: Iterable[T | None]) -> dict[T, Tensors]:
    """The tensors of each value that is not None, in the order of their first."""
    members: dict[T, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            members.setdefault(value, []).append(index)
    return {value: from_indices(found) for value, found in members.items()}


def union(sets: Iterable[Tensors]) -> Tensors:
    """The tensors that are in any of the sets."""
    found = 0
    for tensors in sets:
        found |= tensors
    return found


def indices(tensors: Tensors) -> list[int]:
    """The indices of the tensors of a set, in order."""
    digits = bin(tensors)[:1:-1]
    found = []
    at = digits.find("1")
    while at >= 0:
        found.append(at)
        at = digits.find("1", at + 1)
    return found


def first(tensors: Tensors) -> int:
    """The lowest index of a set that is not empty."""
    return (tensors & -tensors).bit_length() - 1
