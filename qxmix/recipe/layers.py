"""Which layers a rule is for: ``first(3), last(1/8), !more_bits``, with the integer arithmetic of the engines.

A selector is a union read from left to right; a term with ``!`` in front takes away what came before it, and a
selector that starts with one starts from all layers.  With ``i`` the index and ``n`` the number of layers:

    3, 2-5            i == 3, 2 <= i <= 5       6-27/3          6, 9, 12, ..., 27
    first(4)          i < 4                     last(4)         i >= n - 4
    first(1/8)        i < n / 8                 last(1/8)       i >= 7 n / 8
    range(1/8, 7/8)   n / 8 <= i < 7 n / 8      every(3, 2)     i % 3 == 2
    more_bits         first(1/8), last(1/8), and every third layer between them
    all               every layer

All divisions drop the remainder after the multiplication, as llama-quantize's do (``use_more_bits`` and the layer
tests of ``llama_tensor_get_type``): of 30 layers the last eighth is 26 to 29.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

By = Literal["layer", "ordinal", "layer_if_experts"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CALL = re.compile(r"([a-z_]+)\s*\(([^()]*)\)\Z")
_SPAN = re.compile(r"(\d{1,6})\s*(?:-|\.\.)\s*(\d{1,6})(?:\s*/\s*(\d{1,6}))?\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}\Z", re.ASCII)
_FRACTION = re.compile(r"(\d{1,4})\s*/\s*(\d{1,4})\Z", re.ASCII)
_LOOSE = re.compile(r"(first|last|every)[\s:=_(-]*(\d+(?:/\d+)?)\Z", re.ASCII)
_DASH = re.compile("[\u2010-\u2015\u2212]")
_APART = re.compile(r"\s*;\s*|\s+")
_SYNTAX = (
    "write numbers, ranges (2-5), every third of one (6-27/3), first(n), last(n), first(1/8), range(1/8, 7/8), "
    "every(k, offset), more_bits"
)

_SHORT = 16
"""Characters of a list of layers that need no other way to be said."""

RESERVED = frozenset({"all", "first", "last", "range", "every", "more_bits"})
"""Words that cannot name a layer set."""


class LayerTerm(NamedTuple):
    """One term of a selector."""

    kind: Literal["span", "range", "from", "last", "every", "more_bits", "all"]
    args: tuple[int, ...] = ()
    """Of ``span`` first and last layer and, if it is not 1, the step; of ``range`` two fractions, of ``from`` one, of
    ``last`` a count, of ``every`` step and offset."""
    negate: bool = False
    """Takes its layers away instead of adding them."""


class LayerSelector(NamedTuple):
    """Layers, and what is counted to number them."""

    terms: tuple[LayerTerm, ...]
    by: By = "layer"
    """``layer``: the number in ``blk.N.``; ``ordinal``: the tensor's place among those the rule's ``match`` and
    ``category`` select; ``layer_if_experts``: the first in a model with experts, else the second."""
    of: tuple[str, ...] = ()
    """What the total counts: empty for the model's layers, else tensors of these categories."""
    text: str = ""
    """As written, for messages."""


class LayerSet(NamedTuple):
    """A named set; ``by`` and ``of`` are None where the set leaves them to who uses it."""

    terms: tuple[LayerTerm, ...]
    by: By | None = None
    of: tuple[str, ...] | None = None


class LayerError(ValueError):
    """A selector that does not parse; the text says why and what to write."""


def holds(selector: LayerSelector, i: int, n: int) -> bool:
    """Whether index ``i`` of ``n`` is selected."""
    chosen = bool(selector.terms) and selector.terms[0].negate
    for term in selector.terms:
        if chosen == term.negate and _covers(term, i, n):
            chosen = not term.negate
    return chosen


def _covers(term: LayerTerm, i: int, n: int) -> bool:  # noqa: PLR0911
    a = term.args
    match term.kind:
        case "span":
            return a[0] <= i <= a[1] and (len(a) == 2 or (i - a[0]) % a[2] == 0)  # noqa: PLR2004
        case "range":
            return a[0] * n // a[1] <= i < a[2] * n // a[3]
        case "from":
            return i >= a[0] * n // a[1]
        case "last":
            return i >= n - a[0]
        case "every":
            return i % a[0] == a[1]
        case "more_bits":
            return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2  # noqa: PLR2004
        case "all":
            return True


def parse_terms(text: str, named: Mapping[str, LayerSet]) -> tuple[LayerTerm, ...]:
    """Parse a selector; ``named`` are the layer sets it may refer to.

    Raises:
        LayerError: it does not parse.

    """
    terms: list[LayerTerm] = []
    for part in _split(text):
        negate = part.startswith("!")
        terms += _term(part.removeprefix("!").strip(), named, negate=negate)
    return tuple(terms)


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    if "" in parts:
        raise LayerError(f"'{text}' has an empty term; {_SYNTAX}")
    return parts


def _term(part: str, named: Mapping[str, LayerSet], *, negate: bool) -> list[LayerTerm]:
    if part == "more_bits":
        return [LayerTerm("more_bits", (), negate)]
    if part == "all":
        return [LayerTerm("all", (), negate)]
    if _NUMBER.match(part):
        return [LayerTerm("span", (int(part), int(part)), negate)]
    if span := _SPAN.match(part):
        return [LayerTerm("span", _span(part, int(span[1]), int(span[2]), int(span[3] or 1)), negate)]
    if call := _CALL.match(part):
        return [_call(part, call[1], [a.strip() for a in call[2].split(",")], negate=negate)]
    if not _NAME.match(part):
        raise LayerError(f"'{part}' is no layer selector; {_meant(part)}{_SYNTAX}")
    if part in RESERVED:
        raise LayerError(f"'{part}' needs its layers: {part}(...); {_SYNTAX}")
    if part not in named:
        known = f"the named sets are {', '.join(sorted(named))}" if named else "no layer sets are named"
        raise LayerError(f"unknown layer set '{part}'; {known}; {_SYNTAX}")
    found = named[part]
    if found.by is not None or found.of is not None:
        raise LayerError(f"the set '{part}' says how layers are counted and so must stand alone")
    return _negated(found.terms, part) if negate else list(found.terms)


def _meant(part: str) -> str:
    if found := _LOOSE.match(part):
        return f"did you mean {found[1]}({found[2]})? Or "
    if part.startswith("-") and _NUMBER.match(part[1:]):
        return f"did you mean last({part[1:]})? Or "
    # Digits and dashes of a text processor; several without a comma between them.
    pieces = _APART.split(_DASH.sub("-", unicodedata.normalize("NFKC", part)))
    if all(_NUMBER.match(piece) or _SPAN.match(piece) for piece in pieces):
        return f"did you mean {', '.join(pieces)}? Or "
    return f"did you mean first({part})? Or " if _FRACTION.match(part) else ""


def _span(part: str, first: int, last: int, step: int) -> tuple[int, ...]:
    if first > last:
        raise LayerError(f"the range '{part}' is empty; write {last}-{first}")
    if step == 0:
        raise LayerError(f"'{part}': the step after the / must be at least 1")
    return (first, last) if step == 1 else (first, last, step)


def layers_text(layers: Iterable[int]) -> str:
    """A selector of exactly these layers, in short: ``0-3, 6-27/3, 30``.  Empty where there is none.

    Where it is much shorter, the layers left out are named: ``0-58, !3-55/4``.
    """
    chosen = sorted(set(layers))
    text = ", ".join(map(_run_text, _runs(chosen)))
    if len(text) <= _SHORT:
        return text
    missing = sorted(set(range(chosen[0], chosen[-1])).difference(chosen))
    without = ", !".join([f"{chosen[0]}-{chosen[-1]}", *map(_run_text, _runs(missing))])
    return without if 2 * len(without) <= len(text) else text


def _runs(layers: list[int]) -> list[list[int]]:
    """Split into runs of equal steps; a step above 1 needs three members to be worth a run."""
    runs: list[list[int]] = []
    start = 0
    while start < len(layers):
        end = start + 1
        step = layers[end] - layers[start] if end < len(layers) else 0
        while end < len(layers) and layers[end] - layers[end - 1] == step:
            end += 1
        # Leave the last one to the next run where that goes on by ones: 3, 6-9 and not 3-6/3 and 7-9.
        if step > 1 and end < len(layers) and layers[end] == layers[end - 1] + 1:
            end -= 1
        if step > 1 and end - start < 3:  # noqa: PLR2004
            end = start + 1
        runs.append(layers[start:end])
        start = end
    return runs


def _run_text(run: list[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    return f"{run[0]}-{run[-1]}" + (f"/{step}" if step > 1 else "")


def _negated(terms: tuple[LayerTerm, ...], name: str) -> list[LayerTerm]:
    if any(term.negate for term in terms):
        raise LayerError(f"'!{name}': the set itself takes layers away; name the layers that stay instead")
    return [LayerTerm(term.kind, term.args, negate=True) for term in terms]


def _call(part: str, name: str, args: list[str], *, negate: bool) -> LayerTerm:  # noqa: PLR0911
    numbers = [int(a) if _NUMBER.match(a) else None for a in args]
    fractions = [_fraction(a, part) for a in args]
    match name, numbers, fractions:
        case "first", [int(n)], _:
            return LayerTerm("span", (0, n - 1), negate)
        case "last", [int(n)], _:
            return LayerTerm("last", (n,), negate)
        case "first", _, [(int(a), int(b))]:
            return LayerTerm("range", (0, 1, a, b), negate)
        case "last", _, [(int(a), int(b))]:
            # The engines test i >= 7n/8; n - n/8 would be another layer where 8 does not divide n.
            return LayerTerm("from", (b - a, b), negate)
        case "range", _, [(int(), int()) as low, (int(), int()) as high]:
            return LayerTerm("range", _range(part, *low, *high), negate)
        case "every", [int(k)], _ if k > 0:
            return LayerTerm("every", (k, 0), negate)
        case "every", [int(k), int(offset)], _ if k > offset:
            return LayerTerm("every", (k, offset), negate)
        case "every", [int(k), *_], _:
            raise LayerError(f"'{part}': the step must be at least 1 and the offset smaller than the step ({k})")
    if name not in RESERVED:
        raise LayerError(f"unknown layer function '{name}'; {_SYNTAX}")
    raise LayerError(f"'{part}' has wrong arguments; {_SYNTAX}")


def _range(part: str, a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    if a * d > c * b:
        raise LayerError(f"the range '{part}' is empty; write range({c}/{d}, {a}/{b})")
    return a, b, c, d


def _fraction(text: str, part: str) -> tuple[int, int] | None:
    found = _FRACTION.match(text)
    if found is None:
        return None
    a, b = int(found[1]), int(found[2])
    if b == 0 or a > b:
        raise LayerError(f"'{part}': {text} is no fraction of the layers; write one between 0/1 and 1/1")
    return a, b
