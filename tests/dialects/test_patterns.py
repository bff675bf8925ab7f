"""Patterns match the wanted names and no others; layers written in short are the same layers."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from qxmix.dialects.patterns import name_patterns, numbers_pattern
from qxmix.dialects.recover import layer_text
from qxmix.recipe.layers import LayerSelector, holds, parse_terms

LAYERS = st.sets(st.integers(0, 130), min_size=1)
PARTS = ("attn_q.weight", "attn_q_norm.weight", "ffn_up.weight", "ffn_up_exps.weight", "a-b.weight")


@given(LAYERS)
def test_numbers(numbers: set[int]) -> None:
    pattern = re.compile(numbers_pattern(numbers))
    assert {n for n in range(2000) if pattern.fullmatch(str(n))} == numbers


@given(st.sets(st.tuples(st.integers(0, 25), st.sampled_from(PARTS))), st.booleans())
def test_names(wanted: set[tuple[int, str]], output: bool) -> None:
    names = {f"blk.{layer}.{part}" for layer, part in wanted} | ({"output.weight"} if output else set())
    every = {f"blk.{layer}.{part}" for layer in range(130) for part in PARTS}
    every |= {"output.weight", "output_norm.weight", "token_embd.weight", "xblk.1.attn_q.weight"}
    patterns = name_patterns(sorted(names))
    assert {n for n in every if any(re.search(p, n) for p in patterns)} == names


def picked(text: str, n: int) -> set[int]:
    selector = LayerSelector(parse_terms(text, {}))
    return {i for i in range(n) if holds(selector, i, n)}


@given(LAYERS)
def test_layers_in_short(layers: set[int]) -> None:
    assert picked(layer_text(sorted(layers), 131), 131) == layers


@given(st.integers(8, 100), st.sampled_from(["more_bits", "!more_bits"]))
def test_layers_of_the_mixes_are_recognized(n: int, text: str) -> None:
    assert layer_text(sorted(picked(text, n)), n) == (
        text if len(picked(text, n)) > 3 else layer_text(sorted(picked(text, n)), 500)
    )
