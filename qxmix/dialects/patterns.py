"""Regular expressions that match exactly the wanted names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from qxmix.recipe.categories import block_of

_DIGITS = 10
_PLAIN = re.compile(r"[a-z0-9_]")


def numbers_pattern(numbers: Iterable[int]) -> str:
    """A group that matches these numbers in decimal and no others: ``([0-2]|1[0-9]|60)``."""
    by_tens: dict[int, list[int]] = defaultdict(list)
    for number in sorted(set(numbers)):
        by_tens[number // _DIGITS].append(number % _DIGITS)
    by_digits: dict[str, list[int]] = defaultdict(list)
    for tens, units in by_tens.items():
        by_digits[_digit_class(units)].append(tens)
    return "(" + "|".join(_alternatives(by_digits)) + ")"


def _alternatives(by_digits: dict[str, list[int]]) -> Iterator[str]:
    for units, tens in by_digits.items():
        if 0 in tens:
            yield units
        small = [t for t in tens if 0 < t < _DIGITS]
        if small:
            yield f"{_digit_class(small)}{units}"
        yield from (f"{t}{units}" for t in tens if t >= _DIGITS)


def _digit_class(digits: list[int]) -> str:
    """``7``, ``[3-9]`` or ``[0246]``."""
    if len(digits) == 1:
        return str(digits[0])
    if digits[-1] - digits[0] == len(digits) - 1:
        return f"[{digits[0]}-{digits[-1]}]"
    return f"[{''.join(map(str, digits))}]"


def literal(text: str) -> str:
    """A pattern for a text in any case; what an option's list or llama.cpp's lower case would spoil becomes a dot."""
    return "".join(c if _PLAIN.match(c) else r"\." if c == "." else r"\-" if c == "-" else "." for c in text)


def name_patterns(names: Iterable[str]) -> list[str]:
    """Anchored patterns for these names: one for each part of the layers, parts of the same layers together."""
    layers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        layer = block_of(name)
        layers[name if layer is None else name.removeprefix(f"blk.{layer}.")].append(-1 if layer is None else layer)
    parts: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for part, found in layers.items():
        parts[tuple(sorted(found))].append(part)
    return [_pattern(found, members) for found, members in parts.items()]


def _pattern(layers: tuple[int, ...], parts: list[str]) -> str:
    own = "|".join(map(literal, parts))
    own = f"({own})" if len(parts) > 1 else own
    return f"^{own}$" if layers == (-1,) else rf"^blk\.{numbers_pattern(layers)}\.{own}$"
