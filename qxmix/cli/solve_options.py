"""Options of ``qxmix solve`` that are more than a word: budgets, bounds, ties, lists of types."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from qxmix.cli.bundle import bundled
from qxmix.cli.inputs import FILE, threads_option
from qxmix.cli.sizes import SIZE, Finite, Parsed, text_length
from qxmix.cli.streams import notice
from qxmix.processors import n_processors
from qxmix.quants import QUANT_TYPES, get
from qxmix.recipe.categories import CATEGORIES, category_of
from qxmix.recipe.model import Recipe
from qxmix.recipe.patterns import pattern_error
from qxmix.recipe.remedies import near
from qxmix.recipe.sizes import parse_size
from qxmix.solve.prior import load_prior
from qxmix.solve.request import REST, Bound, Budget, Limits, Request, Selector, Share, known_type

if TYPE_CHECKING:
    from qxmix.measure.score import Passage
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


def _budget(*, size: int | None, bpw: float | None, shares: tuple[Share, ...]) -> Budget:
    return Budget(size, bpw, shares)


def _limits(
    *, floors: tuple[Bound, ...], ceilings: tuple[Bound, ...], bans: tuple[Bound, ...],
    ties: tuple[tuple[tuple[str, ...], ...], ...], max_types: int | None,
) -> Limits:  # fmt: skip
    """All ties that are asked for, or the usual ones."""
    tied = tuple(tie for each in ties for tie in each) if ties else Limits().ties
    return Limits(floors, ceilings, bans, tied, max_types)


class Refining(NamedTuple):
    """How a recipe is refined on the model itself; not at all without ``tries`` and ``text``."""

    tries: int | None
    text: Path | None
    chunks: int
    first_chunk: int
    text_ctx: int
    threads: int | None

    @property
    def is_whole(self) -> bool:
        """Whether there are both, or neither."""
        return (self.tries is None) == (self.text is None)

    def passage(self, text: bytes) -> Passage:
        """What the engine runs."""
        from qxmix.engines.evaluate import N_UBATCH  # noqa: PLC0415 - the engine, for those who refine
        from qxmix.measure.score import Passage  # noqa: PLC0415

        n_threads, n_ubatch = self.threads or n_processors(), min(self.text_ctx, N_UBATCH)
        return Passage(
            text.removesuffix(b"\n"), self.text_ctx, self.first_chunk, self.chunks, n_ubatch, n_threads
        )  # fmt: skip


AGAINST = Parsed("random:N", _parse_against)
_BOUND = Parsed("tensors=type", _parse_bound)

budget_options = bundled(
    "budget", _budget,
    click.option("--size", type=SIZE, help="Most bytes of the output: 3.5GiB, 24GB."),
    click.option("--bpw", type=Finite(min=0, min_open=True), help="Most bits per weight over all tensors."),
    click.option(
        "--budget", "shares", type=Parsed("tensors=size", _parse_share), multiple=True,
        help="Most bytes of some tensors, a category or a pattern: 'exps=100GiB', and 'rest=20GiB'. Repeatable.",
    ),
)  # fmt: skip
"""How large the result may be; the command gets a ``budget``."""

limit_options = bundled(
    "limits", _limits,
    click.option("--floor", "floors", type=_BOUND, multiple=True, help="Least type: attn_v=q6_k. Repeatable."),
    click.option("--ceiling", "ceilings", type=_BOUND, multiple=True, help="Largest type. Repeatable."),
    click.option(
        "--ban", "bans", type=Parsed("tensors=type", partial(_parse_bound, several=True)), multiple=True,
        help="Not these: ffn_down=q2_k,q3_k.",
    ),
    click.option(
        "--tie", "ties", type=Parsed("parts", _parse_tie), multiple=True,
        help="Parts of a layer that get one type: gate+up, qkv, experts, attn_q+attn_k, none.  [default: gate+up]",
    ),
    click.option("--max-types", type=click.IntRange(min=1), help="Most distinct types."),
)  # fmt: skip
"""What a choice must keep to, besides the size; the command gets ``limits``."""

refine_options = bundled(
    "refining", Refining,
    click.option(
        "--refine", "tries", type=click.IntRange(min=1), help="Try so many swaps on the model itself; --text."
    ),
    click.option("--text", type=FILE, help="Text that swaps are judged on."),
    click.option("--chunks", default=4, show_default=True, type=click.IntRange(min=1), help="Chunks of it to run."),
    click.option("--first-chunk", default=0, show_default=True, type=click.IntRange(min=0), help="Chunks to skip."),
    text_length(),
    threads_option,
)  # fmt: skip
"""How the recipe is refined at the end; the command gets ``refining``."""


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


def selecting_nothing(request: Request) -> Iterator[str]:
    """What is asked for tensors that the model has none of: a name that is mistyped, or another model's."""
    limits, names = request.limits, [tensor.name for tensor in request.header.tensors]
    given = [
        *(("--budget", share.selector) for share in request.budget.shares),
        *(("--floor", bound.selector) for bound in limits.floors),
        *(("--ceiling", bound.selector) for bound in limits.ceilings),
        *(("--ban", bound.selector) for bound in limits.bans),
    ]
    for option, chosen in given:
        if chosen is not None and not any(map(chosen.holds, names)):
            there = [] if chosen.text in CATEGORIES else list(dict.fromkeys(map(category_of, names)))
            yield f"{option} {chosen.text}: selects no tensor of this model{near(chosen.text, there)}"


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
