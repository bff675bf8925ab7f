"""What a pattern requires of a name never excludes a name in which it is found."""

from __future__ import annotations

import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qxmix.recipe.literals import required, sequences

WORDS = ["blk", "enc.blk", "0", "3", "12", "attn_q", "attn_v", "ffn_down_exps", "weight", "bias", "output", "", "a\n"]
names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(".".join)
PIECES = [
    "^", "$", r"\.", ".", ".*", "blk", r"\d+", "[0-9]", "[0-3]", "(0|3)", "(?:1|12)", "attn_", "[qv]", "attn_q",
    "ffn_(up|down)_exps", "weight", "bias", "|", "(a|", ")", "?", "+", "*", "[^.]", r"\w", "(?i)", "(?=b)", "{2}",
    r"\b", "[.]", "-", "[a-", r"\p{L}", "(^|", "output",
]  # fmt: skip
patterns = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)


@given(patterns, names)
@settings(max_examples=4000, deadline=None)
@example(r"weight$", "a.weight\n")
@example(r"(^|\.)0\.weight", "3.0.weight")
@example(r"blk\.?0", "blk0")
@example(r"a{2}", "aa")
def test_it_never_hides_a_name(pattern: str, name: str) -> None:
    try:
        found = regex.compile(pattern).search(name, timeout=1)
    except (regex.error, TimeoutError):
        return
    keys = required(pattern)
    if found and keys is not None:
        assert keys & set(sequences(name)), (pattern, name)


def test_what_it_reads() -> None:
    assert required(r"^blk\.3\.attn_q\.weight$") == frozenset({"^.blk.3.attn_q.weight.$"})
    assert required(r"blk\.3\.ffn_down\.weight") == frozenset({"3.ffn_down"})
    assert required(r"blk\.([01]|1[0-1])\.attn") == frozenset({"0", "1", "10", "11"})
    assert required(r"\.attn_[kv]\.weight$") == frozenset({"attn_k.weight.$", "attn_v.weight.$"})
    assert required("^output") is None
    for unread in ("(?i)^blk.3$", "a{2}", "[[:alpha:]]", r"^a\x41$", "(" * 5000, "attn_q", "^a|"):
        assert required(unread) is None, unread
