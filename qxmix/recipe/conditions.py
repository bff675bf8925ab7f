"""What a rule asks of the model and of the tensor: ``when: {n_expert: ">1", n_cols: "%256"}``.

A value is a number or word that the fact must equal, or text with comparisons: ``>=4``, ``!=8``, ``%256`` (a multiple
of 256), ``!%256``, ``!falcon``; comparisons after commas must all hold, of a list one must.  The right side may be the
name of another number fact: ``n_head: "!=n_head_kv"``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

FactValue = int | str | bool | None
Op = Literal["==", "!=", "<", "<=", ">", ">=", "%", "!%"]

_MODEL_NUMBERS = ("n_layer", "n_head", "n_head_kv", "n_gqa", "n_expert", "n_vocab", "n_embd")
_TENSOR_NUMBERS = ("n_cols", "n_rows", "n_matrices", "n_dims", "n_weights")
NUMBERS = (*_MODEL_NUMBERS, *_TENSOR_NUMBERS)
_MODEL_FLAGS = ("tied", "has_imatrix")
FLAGS = (*_MODEL_FLAGS, "has_importance")
WORDS = ("arch", "type", "source_type")
_MODEL_FACTS = frozenset({*_MODEL_NUMBERS, *_MODEL_FLAGS, "arch"})
"""Facts that are the same for every tensor of a model."""

_OPERATIONS: dict[Op, Callable[[float, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "%": lambda value, step: step > 0 and value % step == 0,
    "!%": lambda value, step: step > 0 and value % step != 0,
}

_NUMBER_TERM = re.compile(r"(>=|<=|==|!=|!%|>|<|%|=)?\s*([A-Za-z_]\w*|-?\d{1,15})\Z", re.ASCII)
_WORD_TERM = re.compile(r"(!=|!|==|=)?\s*([A-Za-z0-9_.\-]+)\Z")


class Comparison(NamedTuple):
    """One comparison of a fact."""

    op: Op
    operand: int | str | bool
    """A number, a word, or for a number fact the name of another."""


class Test(NamedTuple):
    """What one fact must be."""

    fact: str
    any_of: tuple[tuple[Comparison, ...], ...]
    """Alternatives; the comparisons of one must all hold."""


Condition = tuple[tuple[Test, ...], ...]
"""Alternatives, each of tests that must all hold; empty: no condition."""


class ConditionError(ValueError):
    """A test that does not parse; the text says why and what to write."""


def holds(condition: Condition, facts: Mapping[str, FactValue]) -> bool:
    """Whether the facts meet the condition.  A fact that the model does not state meets no test."""
    return not condition or any(all(_test(test, facts) for test in tests) for tests in condition)


def _test(test: Test, facts: Mapping[str, FactValue]) -> bool:
    value = facts[test.fact]
    return value is not None and any(all(_compare(c, value, facts) for c in all_of) for all_of in test.any_of)


def _compare(comparison: Comparison, value: float | str, facts: Mapping[str, FactValue]) -> bool:
    operand: FactValue = comparison.operand
    if isinstance(value, str):
        return (value == operand) == (comparison.op == "==")
    if isinstance(operand, str):
        operand = facts[operand]
    return isinstance(operand, int) and _OPERATIONS[comparison.op](value, operand)


def parse_test(fact: str, values: Sequence[object]) -> Test:
    """Parse the value of one fact; a list of several values are alternatives.

    Raises:
        ConditionError: a value does not fit the fact.

    """
    return Test(fact, tuple(_all_of(fact, value) for value in values))


def _all_of(fact: str, value: object) -> tuple[Comparison, ...]:
    if fact in FLAGS:
        if isinstance(value, bool):
            return (Comparison("==", value),)
        raise ConditionError(f"{fact} is true or false, not '{value}'")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConditionError(f"{fact} cannot be '{value}'; write a {'number' if fact in NUMBERS else 'name'}")
    if isinstance(value, int) and fact in NUMBERS:
        return (Comparison("==", value),)
    parts = [part.strip() for part in str(value).split(",")]
    return tuple(_number(fact, part) if fact in NUMBERS else _word(fact, part) for part in parts)


def _number(fact: str, part: str) -> Comparison:
    found = _NUMBER_TERM.match(part)
    if found is None:
        raise ConditionError(f"'{part}' is no test of {fact}; write a number or >1, >=4, <8, !=8, %256, !%256")
    op = _op(found[1])
    operand: int | str = found[2]
    try:
        operand = int(operand)
    except ValueError:
        if operand not in NUMBERS:
            raise ConditionError(f"'{operand}' is no number and no fact of a model; {fact} needs one") from None
    if op in ("%", "!%") and isinstance(operand, int) and operand < 1:
        raise ConditionError(f"'{part}': nothing is a multiple of {operand}")
    return Comparison(op, operand)


def _word(fact: str, part: str) -> Comparison:
    found = _WORD_TERM.match(part)
    if found is None:
        raise ConditionError(f"'{part}' is no test of {fact}; write a name, or !name for all others")
    word = found[2]
    return Comparison("!=" if found[1] in ("!", "!=") else "==", word if fact == "arch" else word.upper())


def _op(text: str | None) -> Op:
    return next((op for op in _OPERATIONS if op == text), "==")


def reduce(condition: Condition, facts: Mapping[str, FactValue]) -> Condition | None:
    """What is left to ask of the tensors once the model's facts are known; None where nothing can meet it."""
    left: list[tuple[Test, ...]] = []
    for tests in condition:
        of_model = [t for t in tests if is_of_model(t)]
        if all(_test(t, facts) for t in of_model):
            left.append(tuple(t for t in tests if t not in of_model))
    if condition and not left:
        return None
    # An alternative without a test is met by every tensor.
    return () if any(not tests for tests in left) else tuple(left)


def is_of_model(test: Test) -> bool:
    """Whether a test has one answer for all tensors of a model."""
    operands = {c.operand for all_of in test.any_of for c in all_of}
    return test.fact in _MODEL_FACTS and not operands & {*_TENSOR_NUMBERS}


def unmet(condition: Condition, facts: Mapping[str, FactValue]) -> tuple[Test, ...]:
    """The tests that fail, of the alternative of which fewest do."""
    return min((tuple(t for t in tests if not _test(t, facts)) for tests in condition), key=len, default=())


def told(test: Test, facts: Mapping[str, FactValue]) -> str:
    """A fact beside what is asked of it: ``n_expert is 0, not >1``."""
    value = facts[test.fact]
    wanted = " or ".join(", ".join(map(_told, all_of)) for all_of in test.any_of)
    return f"{test.fact} is {'not known' if value is None else str(value).lower()}, not {wanted}"


def _told(comparison: Comparison) -> str:
    word = str(comparison.operand).lower()
    return word if comparison.op == "==" else f"{comparison.op} {word}" if word.isidentifier() else comparison.op + word
