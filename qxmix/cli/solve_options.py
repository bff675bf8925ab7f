"""Options of ``qxmix solve`` that are more than a word: budgets, bounds, ties, lists of types."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from qxmix.cli.sizes import Parsed
from qxmix.cli.streams import notice
from qxmix.quants import QUANT_TYPES, get
from qxmix.recipe.categories import CATEGORIES
from qxmix.recipe.model import Recipe
from qxmix.recipe.patterns import pattern_error
from qxmix.recipe.sizes import parse_size
from qxmix.solve.prior import load_prior
from qxmix.solve.request import REST, Bound, Selector, Share, known_type

if TYPE_CHECKING:
    from qxmix.measurement.model import Measurement

_TIES = {
    "gate+up": (("ffn_gate", "ffn_up"),),
    "qkv": (("attn_q.", "attn_k.", "attn_v."),),
    "experts": (("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),),
}
"""Short names of ties, each the starts of the parts that get one type."""


def _parse_share(text: str) -> Share:
    """``exps=100GiB``, or ``rest=20GiB``."""
    left, _, right = text.rpartition("=")
    try:
        return Share(None if left == REST else selector(left), parse_size(right))
    except ValueError as error:
        raise ValueError(f"'{text}': {error}; write 'exps=100GiB' or 'rest=20GiB'") from None


def _parse_bound(text: str, *, several: bool = False) -> Bound:
    """``attn_v=q6_k``; where more than one type makes sense, ``q2_k,q3_k`` or ``ffn_down=q2_k,q3_k``."""
    left, given, right = text.rpartition("=")
    try:
        types = tuple(known_type(word) for word in (right.split(",") if several else [right]))
        return Bound(selector(left) if given else None, types)
    except ValueError as error:
        raise ValueError(f"'{text}': {error}; write 'attn_v=q6_k', or only the type for all tensors") from None


def _parse_tie(text: str) -> tuple[tuple[str, ...], ...]:
    """Starts of the parts that are tied by ``gate+up``, ``qkv``, ``experts``, ``attn_q+attn_k``, or ``none``."""
    if text == "none":
        return ()
    parts = tuple(text.split("+"))
    if text not in _TIES and (len(parts) < 2 or not all(parts)):  # noqa: PLR2004 - a tie is of two
        raise ValueError(f"'{text}' is none of {', '.join(_TIES)}, none, or parts like attn_q+attn_k")
    return _TIES.get(text, (parts,))


def _parse_against(text: str) -> int:
    kind, _, number = text.partition(":")
    if kind != "random" or not number.isdigit() or not int(number):
        raise ValueError(f"'{text}': write 'random:20'")
    return int(number)


SHARE = Parsed("tensors=size", _parse_share)
BOUND = Parsed("tensors=type", _parse_bound)
BAN = Parsed("tensors=type", partial(_parse_bound, several=True))
TIE = Parsed("parts", _parse_tie)
AGAINST = Parsed("random:N", _parse_against)


def selector(text: str) -> Selector:
    """A category, or a regular expression.

    Raises:
        ValueError: it is neither.

    """
    if not text:
        raise ValueError("the tensors are missing")
    if text not in CATEGORIES and (wrong := pattern_error(text)):
        raise ValueError(wrong)
    return Selector(text)


def candidate_types(given: str | None, measurement: Measurement | None, base: Recipe) -> tuple[str, ...]:
    """The types to choose among: those given, or measured, or of the shipped figures; all known to the engines.

    Raises:
        click.UsageError: a name is no type, or the target does not know it.

    """
    if given == "all" and measurement:
        notice(f"--types all: the {len(measurement.types)} types that were measured; others by their names, at a guess")
    if given in (None, "all"):
        names = measurement.types if measurement else _usual(every=given == "all")
        return tuple(n for n in names if all(e in get(n).engines for e in base.engines))
    assert given is not None
    try:
        names = tuple(dict.fromkeys(known_type(word) for word in given.split(",")))
    except ValueError as error:
        raise click.UsageError(f"--types: {error}") from None
    foreign = [f"{n} is unknown to {e}" for n in names for e in base.engines if e not in get(n).engines]
    unknown = [n for n in names if load_prior().error(n) is None]
    if measurement:
        unknown = [n for n in unknown if n not in measurement.types]
    if foreign or unknown:
        wrong = foreign or [f"nothing is known of what {unknown[0]} loses; measure it"]
        raise click.UsageError(f"--types: {wrong[0]}")
    return names


def _usual(*, every: bool) -> tuple[str, ...]:
    """Types with shipped figures: without ``every`` none that takes hours to encode or is made for special models."""
    known = load_prior().errors
    special = ("trellis", "few_bits", "floats")
    return tuple(t.name for t in QUANT_TYPES if t.name in known and (every or not t.codec.startswith(special)))
