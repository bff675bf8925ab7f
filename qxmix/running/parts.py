"""What the tensors of a model do, as far as it matters on which device they are, and which may go there together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qxmix.container.model import ModelHeader
from qxmix.recipe.categories import category_of, layer_of
from qxmix.running.model import Part
from qxmix.running.states import WITHOUT_CACHE

Key = tuple[int | None, "Part"]
"""A layer, None outside of layers, and a part of it."""
_TABLE, _OUTPUT = "token_embd.weight", "output.weight"


def part_of(name: str) -> Part:
    """What a tensor does; of a layer with experts the router is none of them, and stays with the rest."""
    category = category_of(name)
    if category == "token_embd":
        return "embeddings"
    if category == "output" or name.startswith("output"):
        return "output"
    if "shexp" in name:
        return "shared experts"
    if "_exps" in name:
        return "experts"
    if category.startswith("ffn"):
        return "feed-forward"
    return "attention" if "attn" in name or "ssm" in name else "other"


def key_of(name: str) -> Key:
    """Layer and part of a tensor."""
    return layer_of(name), part_of(name)


def sizes_of(nbytes: Mapping[str, int]) -> dict[Key, int]:
    """Bytes by layer and part, of bytes by name."""
    sizes: dict[Key, int] = defaultdict(int)
    for name, n in nbytes.items():
        sizes[key_of(name)] += n
    return dict(sizes)


def n_copied(header: ModelHeader, nbytes: Mapping[str, int]) -> int:
    """Bytes of the embeddings where they are the output, too: an engine that has that on a GPU copies them there."""
    is_output = _OUTPUT not in nbytes and header.architecture not in WITHOUT_CACHE
    return nbytes.get(_TABLE, 0) if is_output else 0


@dataclass(frozen=True, slots=True)
class Stage:
    """What goes to the GPUs together."""

    keys: frozenset[Key]
    layers: frozenset[int]
    """Whose cache goes with it."""
    has_output: bool = False


def stages(keys: Iterable[Key], *, output_first: bool) -> tuple[Stage, ...]:
    """What goes to the GPUs, in order, as far as there is room; the embeddings, which are looked up, never do.

    With experts all that every token needs comes first, then the experts layer by layer from the first; without,
    whole layers from the last one, as ``-ngl`` counts them.

    Args:
        keys: All layers and parts of a model.
        output_first: Whether the engine takes the output before the last layer, or after the first.

    """
    movable = [key for key in keys if key[1] != "embeddings"]
    layers = sorted({layer for layer, _ in movable if layer is not None})
    experts = sorted((key for key in movable if key[1] == "experts"), key=lambda key: key[0] or 0)
    if experts:
        rest = frozenset(movable).difference(experts)
        return (Stage(rest, frozenset(layers), has_output=True), *(Stage(frozenset({e}), frozenset()) for e in experts))
    whole = [Stage(frozenset(k for k in movable if k[0] == i), frozenset({i})) for i in reversed(layers)]
    outside = Stage(frozenset(k for k in movable if k[0] is None), frozenset(), has_output=True)
    return (outside, *whole) if output_first else (*whole, outside)


def by_layer(order: Sequence[Stage]) -> list[Stage]:
    """The same as ``-ts`` counts it: layer by layer from the first, then the output."""
    keys = {key for stage in order for key in stage.keys}
    layers = sorted(layer for stage in order for layer in stage.layers)
    found = [Stage(frozenset(k for k in keys if k[0] == i), frozenset({i})) for i in layers]
    if any(stage.has_output for stage in order):
        found.append(Stage(frozenset(k for k in keys if k[0] is None), frozenset(), has_output=True))
    return found
