"""Which tensors are swapped together, in what order, and what stands in for those that were not measured."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import exp, log

from qxmix.measurement.model import Sensitivity
from qxmix.recipe.categories import layer_of, part_of

_EXPERT = re.compile(r"(ffn_\w+)\.\d+\.weight$")
"""Experts that are tensors of their own: ``blk.3.ffn_up.17.weight``."""
_TIED = {"ffn_up": "ffn_gate", "ffn_up_exps": "ffn_gate_exps", "attn_k": "attn_q", "attn_v": "attn_q"}
_TINY = 1e-12
"""In place of a sensitivity of zero where a logarithm is taken."""


def groups_of(names: Iterable[str], *, tied: bool) -> tuple[tuple[str, ...], ...]:
    """Tensors that are swapped together, in file order.

    Args:
        names: all tensors.
        tied: whether gate goes with up, and q with k and v; experts of a layer that are tensors of their own always go
            together.

    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        key = _EXPERT.sub(r"\1.weight", name)
        if tied:
            part = part_of(key)
            key = key.replace(part, _TIED.get(part, part))
        found[key].append(name)
    return tuple(map(tuple, found.values()))


def in_order(groups: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Groups by what they tell most about: of each kind the first layer, the last, the middle, the middles of those.

    Kinds take turns, so that a budget that ends anywhere leaves no kind without.
    """
    kinds: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for group in groups:
        kinds[part_of(group[0])].append(group)
    for kind in kinds.values():  # a file may have layer 10 before layer 2
        kind.sort(key=lambda group: layer_of(group[0]) or 0)
    ranked = [(rank, group) for kind in kinds.values() for rank, group in enumerate(_halving(kind))]
    return tuple(group for _, group in sorted(ranked, key=lambda item: item[0]))


def _halving(items: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    order = [0, len(items) - 1]
    spans = [(0, len(items) - 1)]
    for low, high in spans:  # grows while it is gone through
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            spans += [(low, middle), (middle, high)]
    return (items[i] for i in dict.fromkeys(order))


def fill(names: Sequence[str], measured: Mapping[str, Sensitivity]) -> dict[str, Sensitivity]:
    """A sensitivity for every tensor.

    One that was not measured takes what lies between the nearest measured layers of its kind, by logarithm and depth;
    a kind of which nothing was measured, the geometric mean of all.  Its error is how far the neighbours are apart.

    Args:
        names: all tensors.
        measured: what is known, at least one.

    """
    kinds: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, found in measured.items():
        kinds[part_of(name)].append((layer_of(name) or 0, log(max(found.value, _TINY))))
    everything = [value for kind in kinds.values() for _, value in kind]
    return {
        name: measured.get(name) or _filled(layer_of(name) or 0, sorted(kinds[part_of(name)]), everything)
        for name in names
    }


def _filled(layer: int, known: Sequence[tuple[int, float]], everything: Sequence[float]) -> Sensitivity:
    if not known:
        mean = sum(everything) / len(everything)
        spread = (sum((value - mean) ** 2 for value in everything) / len(everything)) ** 0.5
        return Sensitivity(exp(mean), exp(mean) * (exp(spread) - 1), "filled")
    below = [item for item in known if item[0] <= layer][-1:] or [known[0]]
    above = [item for item in known if item[0] >= layer][:1] or [known[-1]]
    (low, a), (high, b) = below[0], above[0]
    share = (layer - low) / (high - low) if high > low else 0.5
    value = exp(a + (b - a) * share)
    return Sensitivity(value, abs(exp(b) - exp(a)) / 2 or value, "filled")
