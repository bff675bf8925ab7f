"""A choice as a recipe: few rules, no two for one tensor, each layer list as short as it can be said."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.dialects.recover import layer_text
from qxmix.dialects.write import quoted, recipe_name
from qxmix.quants import get
from qxmix.recipe.categories import name_parts
from qxmix.recipe.model import Recipe
from qxmix.recipe.sizes import size_text

if TYPE_CHECKING:
    from qxmix.running.model import Use


@dataclass(frozen=True, slots=True)
class Fate:
    """What a rule is to say about a tensor."""

    type: str
    """Upper-case name, or ``keep``."""
    words: str = ""
    """Further words of the rule: ``, force: true``."""


def recipe_text(
    fates: dict[str, Fate], n_weights: dict[str, int], base: Recipe, name: str, n_layer: int, comment: Sequence[str],
    use: Use | None = None,
) -> str:  # fmt: skip
    """The recipe.

    Args:
        fates: For each tensor what it gets.
        n_weights: For each its weights, by which the default is chosen.
        base: Where the settings are taken from.
        name: Of the recipe.
        n_layer: Layers of the model.
        comment: Lines for its head.
        use: What it has to run on, or None.

    """
    weights: Counter[str] = Counter()
    for tensor, fate in fates.items():
        weights[fate.type] += n_weights[tensor]
    default = weights.most_common(1)[0][0] if weights else "keep"
    lines = [
        *(f"# {line}".rstrip() for line in comment),
        "qxmix: 1",
        f"name: {quoted(recipe_name(name))}",
        f"target: {base.target}",
        f"default: {default.lower()}   # every tensor is named below",
        "fallback: error   # none is needed",
        *_settings(base),
        *([f"limits: {_limits(use)}"] if use else []),
    ]
    rules = list(_rules(fates, n_layer))
    return "\n".join([*lines, *(["rules:", *rules] if rules else [])]) + "\n"


def _settings(base: Recipe) -> Iterator[str]:
    """What the base recipe says besides its rules."""
    if base.keep:
        yield f"keep: [{', '.join(map(quoted, base.keep))}]"
    if base.allow_requantize:
        yield "allow_requantize: true"
    if base.imatrix.missing:
        yield f"imatrix: {{missing: {base.imatrix.missing}}}"
    if base.search is not None:
        yield f"search: {base.search}"


def _limits(use: Use) -> str:
    """What running may take, so that every plan of the recipe is held to it."""
    words = [f"max_vram: [{', '.join(map(size_text, use.vram))}]"] if use.vram else []
    words += [f"max_ram: {size_text(use.ram)}"] if use.ram is not None else []
    words += [f"ctx: {use.n_ctx}", f"kv_type: {use.kv_type.name.lower()}"]
    return "{" + ", ".join([*words, *([f"parallel: {use.n_parallel}"] if use.n_parallel > 1 else [])]) + "}"


def _rules(fates: dict[str, Fate], n_layer: int) -> Iterator[str]:
    """Parts whose types are equal in all layers share their rules."""
    parts: dict[tuple[str, str], dict[Fate, list[int]]] = defaultdict(lambda: defaultdict(list))
    for tensor, fate in fates.items():
        of = name_parts(tensor)
        if of.layer is None:
            yield f"  - {{match: {quoted(f'^{re.escape(tensor)}$')}, type: {fate.type.lower()}{fate.words}}}"
        else:
            parts[of.stack, tensor.removeprefix(f"{of.stack}.{of.layer}.")][fate].append(of.layer)
    rules: dict[tuple[str, Fate, str], list[str]] = {}
    for (stack, rest), layers in parts.items():
        for fate, found in sorted(layers.items(), key=lambda pair: _bits(pair[0])):
            where = "" if len(layers) == 1 else layer_text(found, n_layer)
            rules.setdefault((stack, fate, where), []).append(rest)
    for (stack, fate, where), rests in rules.items():
        layers_word = f", layers: {quoted(where) if ',' in where or '!' in where else where}" if where else ""
        pattern = quoted(_pattern(stack, rests, list(fates)))
        yield f"  - {{match: {pattern}{layers_word}, type: {fate.type.lower()}{fate.words}}}"


def _bits(fate: Fate) -> float:
    return 0.0 if fate.type == "keep" else -get(fate.type).bpw


def _pattern(stack: str, rests: list[str], tensors: Sequence[str]) -> str:
    """A pattern of these parts in all layers of a stack, and of no other of the tensors; short where that will do.

    Args:
        stack: What the layers are called: ``blk``.
        rests: Ends of names: ``ffn_up.weight``.
        tensors: All names that rules are for.

    """
    whole = rf"^{re.escape(stack)}\.\d+\.{_one_of(rests)}$"
    if any(not rest.endswith(".weight") for rest in rests):
        return whole
    short = rf"\.{_one_of([rest.removesuffix('.weight') for rest in rests])}\."
    return short if all(bool(re.search(short, t)) == bool(re.search(whole, t)) for t in tensors) else whole


def _one_of(texts: list[str]) -> str:
    escaped = [re.escape(text) for text in texts]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
