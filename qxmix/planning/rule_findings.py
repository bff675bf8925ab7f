"""What there is to say about the rules of a plan: those that select nothing, or not what they are meant to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache

from qxmix.errors import Problem
from qxmix.planning import bits
from qxmix.planning.choose import Chooser, Decisions
from qxmix.recipe.categories import layer_of
from qxmix.recipe.layers import layers_text
from qxmix.recipe.model import Expect, Recipe, Rule

_HUGGING_FACE = re.compile(r"_proj\b|self_attn|\blayers\b|lm_head|embed_tokens|\bmlp\b")
"""Parts of names that tensors have before a model is converted to GGUF."""


def expect_problems(recipe: Recipe, chooser: Chooser, decisions: Decisions) -> Iterator[Problem]:
    """Rules that decide more or fewer tensors than they expect."""
    for number, rule in enumerate(recipe.rules):
        if rule.expect is None:
            continue
        count = decisions.by_rule.get(number, 0).bit_count()
        if rule.source != 0 and not _expected(rule.expect, count):
            count += _taken(recipe, chooser, decisions, rule)
        if not _expected(rule.expect, count):
            text = f"expected {_expectation(rule.expect)} and decides {count} ({rule.selector})"
            yield Problem(rule.where, text, id="expect")


def _taken(recipe: Recipe, chooser: Chooser, decisions: Decisions, rule: Rule) -> int:
    """Tensors that a rule would decide, did not the recipes that extend its file: by rules before it, or by ``keep``.

    Whoever wrote ``expect`` did not know of them, and what it is to find out, another model, is none of their making.
    """
    own = bits.union(t for i, t in decisions.by_rule.items() if recipe.rules[i].source == rule.source)
    keep = recipe.places.get("keep")
    own_keep = keep is not None and keep.file == rule.where.file
    candidates = decisions.open if rule.force else decisions.open & chooser.quantizable
    candidates |= 0 if own_keep else decisions.by_keep
    return (chooser.selected(rule, candidates) & ~own).bit_count()


def rule_problems(recipe: Recipe, chooser: Chooser, decisions: Decisions) -> Iterator[Problem]:
    """The recipe's own rules that decide nothing of a model like those that they are for."""
    for number, rule in enumerate(recipe.rules):
        idle = number not in decisions.by_rule and rule.source == 0 and rule.expect is None
        if idle and chooser.applies(rule):
            problem = _unmatched(recipe, chooser, decisions, rule)
            if problem is not None and problem.id not in rule.silence:
                yield problem


def _unmatched(recipe: Recipe, chooser: Chooser, decisions: Decisions, rule: Rule) -> Problem | None:
    """Tell a rule that selects nothing from one that comes too late or selects only what is never quantized."""
    found = chooser.selected(rule, chooser.view.all)
    quantizable = found & chooser.quantizable
    takers = sorted(decisions.by_rule.items()) if quantizable else []
    before = [number for number, tensors in takers if tensors & quantizable]
    if not found:
        text, id_ = (
            f"selects no tensor of this model ({rule.selector}){_why_none(chooser, rule)}",
            "rule-unmatched",
        )
    elif not quantizable:
        example = bits.first(found)
        reason = next((why for why, tensors in decisions.kept.items() if tensors >> example & 1), None)
        text = f"selects only tensors that are never quantized, like {chooser.view.header.tensors[example].name}"
        text += f": {reason}" if reason else ""
        text += "; 'force: true' quantizes them" if found & decisions.open else ""
        id_ = "rule-never-quantized"
    elif any(recipe.rules[number].when for number in before):
        # A rule before it is for models like this one; it is for the others.
        return None
    else:
        places = ", ".join(recipe.rules[number].where.path for number in before[:3])
        text, id_ = (
            f"decides nothing: {places} before it take all {quantizable.bit_count()} tensors it selects",
            "rule-shadowed",
        )
    return Problem(rule.where, text, "warning", id_)


def _why_none(chooser: Chooser, rule: Rule) -> str:
    """The layers that the rest of a rule selects, or a part of a name that its pattern may have meant."""
    if rule.layers is not None:
        elsewhere = bits.indices(chooser.selected(replace(rule, layers=None), chooser.view.all))
        tensors = chooser.view.header.tensors
        numbers = [layer for i in elsewhere if (layer := layer_of(tensors[i].name)) is not None]
        return f"; without 'layers' it selects {len(elsewhere)}, of layers {layers_text(numbers)}" if numbers else ""
    if _HUGGING_FACE.search(rule.match or ""):
        return "; tensors of a GGUF have other names: 'qxmix inspect MODEL --all' lists them"
    words = re.findall(r"[A-Za-z0-9_]{4,}", rule.match or "")
    parts = frozenset(chooser.view.parts)
    close = next((meant for word in words if (meant := _near_part(word, parts))), "")
    return f"; did you mean {close}?" if close else ""


@lru_cache(maxsize=1024)
def _near_part(word: str, parts: frozenset[str]) -> str:
    """The part that a word which is in none is close to; rules in thousands have the same few words."""
    close = [] if any(word in part for part in parts) else get_close_matches(word, parts, 1, 0.75)
    return close[0] if close else ""


def _expected(expect: Expect, count: int) -> bool:
    return expect.min <= count and (expect.max is None or count <= expect.max)


def _expectation(expect: Expect) -> str:
    if expect.min == expect.max:
        return f"{expect.min} {'tensor' if expect.min == 1 else 'tensors'}"
    if expect.max is None:
        return f"at least {expect.min}"
    return f"at most {expect.max}" if expect.min == 0 else f"{expect.min} to {expect.max}"
