"""The results of a check as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qxmix.check import Checked
from qxmix.report.problems import problem_json
from qxmix.report.text import human_nbytes, table, wrapped


def checked_text(results: Sequence[Checked], *, terminal: bool) -> str:
    """Problems by recipe, a line for each recipe and model, and the sum."""
    lines = []
    for r in results:
        on = f" on {r.model}" if r.model else ""
        lines += [wrapped(f"{p.severity.capitalize()}{on}: {p}", terminal=terminal) for p in r.problems]
    rows = [[str(r.recipe), r.model, "" if r.nbytes is None else human_nbytes(r.nbytes), _verdict(r)] for r in results]
    summary = table(("recipe", "model", ">size", "result"), rows, terminal=terminal) if rows else ""
    bad = len({r.recipe for r in results if r.exit_code})
    n_recipes = len({r.recipe for r in results})
    if not n_recipes:
        return "No recipe is here: a recipe is a .yaml file with a line 'qxmix: 1'."
    word = "recipe" if n_recipes == 1 else "recipes"
    fine = "no errors or warnings" if lines else "nothing to say"
    total = f"{bad} of {n_recipes} {word} with problems." if bad else f"{n_recipes} {word}, {fine}."
    if any(p.id == "lock" for r in results for p in r.problems):
        total += " A lock whose change is meant is written anew by 'qxmix plan RECIPE MODEL --lock FILE'."
    return "\n\n".join(part for part in ("\n".join(lines), summary, wrapped(total, terminal=terminal)) if part)


def _verdict(result: Checked) -> str:
    n_errors = sum(p.severity == "error" for p in result.problems)
    n_warnings = sum(p.severity == "warning" for p in result.problems)
    counts = [f"{n} {word}{'s' * (n > 1)}" for n, word in ((n_errors, "error"), (n_warnings, "warning")) if n]
    return ", ".join(counts) or ("as locked" if result.locked else "ok")


def checked_json(results: Sequence[Checked]) -> str:
    """As ``schemas/check.schema.json``."""
    return json.dumps(
        [
            {
                "recipe": str(r.recipe),
                "model": r.model or None,
                "nbytes": r.nbytes,
                "locked": r.locked,
                "exit_code": r.exit_code,
                "problems": [problem_json(p) for p in r.problems],
            }
            for r in results
        ],
        indent=1,
    )
