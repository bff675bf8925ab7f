"""Errors and the problems they carry."""

from __future__ import annotations

import pickle

import pytest

from qxmix.errors import ModelFileError, PlanError, Problem, QxmixError, RecipeError, RunError


def test_a_problem_is_one_line_and_harmless_to_a_terminal() -> None:
    """Names and values are quoted from foreign files; tabs, byte order marks and escapes were found by fuzzing."""
    problem = Problem("a\x1b[2J.yaml:3", "unknown key 'r\tul\ufeffes'\n\u2028 é")
    assert problem.where == "a\\x1b[2J.yaml:3"
    assert problem.text == "unknown key 'r\\tul\\ufeffes'\\n\\u2028 é"
    assert str(problem) == f"{problem.where}: {problem.text}"
    assert str(Problem("", "text")) == "text"


@pytest.mark.parametrize("kind", [ModelFileError, PlanError, RecipeError, RunError])
def test_errors_come_back_whole_from_a_worker_process(kind: type[QxmixError]) -> None:
    error = pickle.loads(pickle.dumps(kind([Problem("a", "b", "warning", "c"), Problem("d", "e")])))  # noqa: S301
    assert type(error) is kind
    assert error.problems == (Problem("a", "b", "warning", "c"), Problem("d", "e"))
    assert str(error) == "a: b\nd: e"


def test_exit_codes() -> None:
    assert [k.exit_code for k in (ModelFileError, RunError, RecipeError, PlanError)] == [1, 1, 2, 3]
    assert QxmixError("text").problems == (Problem("", "text"),)
