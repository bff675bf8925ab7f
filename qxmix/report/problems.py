"""Problems as text, in colour on a terminal, and as JSON."""

from __future__ import annotations

import os

from qxmix.errors import Problem, Severity
from qxmix.report.text import wrapped

_SEVERITIES: dict[Severity, tuple[str, str]] = {
    "error": ("Error", "\x1b[1;31m"),
    "warning": ("Warning", "\x1b[1;33m"),
    "note": ("Note", "\x1b[1;36m"),
}
"""The word for each and its colour on a terminal."""


def problem_line(problem: Problem, *, terminal: bool = False) -> str:
    """``Warning: r.yaml:3: ... [fallback]``; on a terminal in lines that fit, the first word in colour."""
    word, colour = _SEVERITIES[problem.severity]
    line = wrapped(f"{word}: {problem}" + (f" [{problem.id}]" if problem.id else ""), terminal=terminal)
    if not terminal or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return line
    return f"{colour}{word}\x1b[0m{line.removeprefix(word)}"


def problem_json(problem: Problem) -> dict[str, object]:
    """One problem as plain data."""
    return {"severity": problem.severity, "id": problem.id, "where": str(problem.where), "text": problem.text}
