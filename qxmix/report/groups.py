"""A plan's tensors in groups a person can read: the same part of every layer with the same fate is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from qxmix.recipe.categories import layer_of, part_of
from qxmix.recipe.layers import layers_text

if TYPE_CHECKING:
    from qxmix.planning.model import Plan, PlannedTensor

_MAX_LAYERS_LENGTH = 24
"""Characters of layers before they are called the others."""


class Group(NamedTuple):
    """Tensors of one part of the layers that share source type, requested type, type, rule and search."""

    part: str
    """The name without ``blk.N.`` and ``.weight``: ``ffn_down_exps``."""
    layers: str
    """``0-3, 6-27/3``, or ``the others`` of its part; empty for tensors outside of layers."""
    tensors: tuple[PlannedTensor, ...]

    @property
    def first(self) -> PlannedTensor:
        """One of the group, for what all have in common."""
        return self.tensors[0]

    @property
    def nbytes(self) -> int:
        """Bytes of data in the output."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def n_weights(self) -> int:
        """Weights of all tensors."""
        return sum(t.source.n_weights for t in self.tensors)

    @property
    def bpw(self) -> float:
        """Bits per weight."""
        return 8 * self.nbytes / max(1, self.n_weights)


def group(plan: Plan) -> list[Group]:
    """All groups in the order of their first tensor, those of one part together."""
    members: dict[tuple[str, object], list[PlannedTensor]] = {}
    order: dict[str, int] = {}
    for tensor in plan.tensors:
        part = part_of(tensor.name)
        order.setdefault(part, len(order))
        how = (tensor.action, tensor.search, tensor.counts_alike, tensor.symmetric, tensor.scale)
        fate = (tensor.source_type, tensor.requested, tensor.type, tensor.rule, tensor.kept, *how)
        members.setdefault((part, fate), []).append(tensor)
    groups = [Group(part, layer_ranges(t.name for t in found), tuple(found)) for (part, _), found in members.items()]
    return sorted(_shortened(groups), key=lambda g: order[g.part])


def _shortened(groups: list[Group]) -> list[Group]:
    """Where the layers of one group of a part take long to say and the others do not, they are the others."""
    longest: dict[str, int] = {}
    for i, found in enumerate(groups):
        if found.part not in longest or len(found.layers) > len(groups[longest[found.part]].layers):
            longest[found.part] = i
    n_groups = Counter(found.part for found in groups)
    return [
        found._replace(layers="the others") if longest[found.part] == i and _is_long(found, n_groups) else found
        for i, found in enumerate(groups)
    ]


def _is_long(found: Group, n_groups: Counter[str]) -> bool:
    return n_groups[found.part] > 1 and len(found.layers) > _MAX_LAYERS_LENGTH


def layer_ranges(names: Iterable[str]) -> str:
    """The layers of these tensors as ``layers`` of a recipe takes them: ``0-3, 6-27/3, 30``."""
    return layers_text(layer for name in names if (layer := layer_of(name)) is not None)
