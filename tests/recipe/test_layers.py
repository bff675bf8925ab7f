"""Layer selectors: what tables print is what recipes take, and means the same layers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxmix.recipe.faults import check
from qxmix.recipe.layers import LayerError, LayerSelector, holds, layers_text, parse_terms
from qxmix.recipe.tree import parse


def selected(text: str, n: int) -> set[int]:
    selector = LayerSelector(parse_terms(text, {}))
    return {i for i in range(n) if holds(selector, i, n)}


@given(
    st.sets(st.integers(0, 99), min_size=1)
    | st.builds(lambda a, n, k: set(range(a, n, k)), *[st.integers(0, 30), st.integers(31, 99), st.integers(1, 9)])
)
def test_printed_layers_are_a_selector_of_just_these(layers: set[int]) -> None:
    text = layers_text(layers)
    assert selected(text, 100) == layers
    assert check(parse(f"qxmix: 1\nrules:\n  - {{type: q8_0, layers: '{text}'}}\n", "r"), "r") == []


@given(st.integers(0, 30), st.integers(31, 99), st.sets(st.integers(0, 99), max_size=20))
def test_ranges_with_gaps(first: int, last: int, gaps: set[int]) -> None:
    layers = set(range(first, last)) - gaps
    assert selected(layers_text(layers), 100) == layers


def test_few_layers_left_out_are_named() -> None:
    assert layers_text(i for i in range(60) if i % 4 != 3) == "0-58, !3-55/4"
    assert layers_text([0, 1, 2, 4, 5]) == "0-2, 4-5"


@given(st.lists(st.integers(0, 60), min_size=1))
def test_order_and_repeats_do_not_matter(layers: list[int]) -> None:
    assert layers_text(layers) == layers_text(sorted(set(layers)))


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("6-12/3", {6, 9, 12}),
        ("6-14/3", {6, 9, 12}),
        ("6..14 / 3", {6, 9, 12}),
        ("0-9, !0-9/2", {1, 3, 5, 7, 9}),
        ("3-5/1", {3, 4, 5}),
    ],
)
def test_every_so_many_of_a_range(text: str, layers: set[int]) -> None:
    assert selected(text, 20) == layers


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("6-27/0", "'6-27/0': the step after the / must be at least 1"),
        ("27-6/3", "the range '27-6/3' is empty; write 6-27"),
        ("6/3", "'6/3' is no layer selector"),
        ("\N{FULLWIDTH DIGIT ONE}", "is no layer selector; did you mean 1"),
        ("0\N{EN DASH}3", "is no layer selector; did you mean 0-3"),
        ("0:3", "is no layer selector; write numbers"),
        ("-2", "'-2' is no layer selector; did you mean last\\(2\\)"),
        ("1 2  5-7", "'1 2  5-7' is no layer selector; did you mean 1, 2, 5-7"),
        ("1; 2", "'1; 2' is no layer selector; did you mean 1, 2"),
        ("range(1/2, 1/4)", r"the range 'range\(1/2, 1/4\)' is empty; write range\(1/4, 1/2\)"),
    ],
)
def test_what_is_no_such_range(text: str, error: str) -> None:
    with pytest.raises(LayerError, match=error):
        parse_terms(text, {})
