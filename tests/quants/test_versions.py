"""An encoder that makes other bytes has another version: ``--reuse`` and ``--cache`` trust it."""

from __future__ import annotations

import pytest

from qxmix.quants import codec_of
from tests.quants.versions import TYPES, known, output_digest

AGAIN = "then run `python -m tests.quants.versions` and commit versions.json"


def judge(name: str, now: tuple[int, str], before: tuple[int, str] | None) -> str:
    """What is wrong with version and digest as they are now, and what to do; empty if nothing is."""
    if before is None:
        return f"{name} is new: {AGAIN[5:]}"
    if now == before:
        return ""
    if now[0] > before[0]:
        return f"{name} has a new version: {AGAIN[5:]}"
    if now[0] < before[0]:
        return f"{name} has version {now[0]} and had {before[0]}: a version never falls"
    return f"{name} makes other bytes and still has version {now[0]}: raise its Codec.version, {AGAIN}"


@pytest.mark.parametrize("name", TYPES)
def test_a_changed_encoder_has_another_version(name: str) -> None:
    wrong = judge(name, (codec_of(name).version, output_digest(name)), known().get(name))
    assert not wrong, wrong


def test_what_is_wrong_is_told() -> None:
    assert judge("Q4_0", (1, "a"), (1, "a")) == ""
    assert "raise its Codec.version" in judge("Q4_0", (1, "b"), (1, "a"))
    assert "run `python -m tests.quants.versions`" in judge("Q4_0", (2, "b"), (1, "a"))
    assert "never falls" in judge("Q4_0", (1, "a"), (2, "a"))
    assert judge("Q9_0", (1, "a"), None) == (
        "Q9_0 is new: run `python -m tests.quants.versions` and commit versions.json"
    )


def test_no_type_is_written_down_that_is_none() -> None:
    assert set(known()) == set(TYPES)
