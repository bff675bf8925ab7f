"""Several plans for one model that are carried out together, as text."""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.plan import Plan
from qxmix.planning.effort import seconds_before
from qxmix.planning.memory import Chunking, peak_nbytes
from qxmix.report.plan import about, problem_counts, sizes
from qxmix.report.problems import problem_line
from qxmix.report.text import human_nbytes, table, wrapped


def plans_text(plans: Sequence[Plan], outputs: Sequence[str], chunking: Chunking, *, terminal: bool = False) -> str:
    """All problems, one line for each plan, and what it takes to make them.

    Args:
        plans: The plans.
        outputs: Where each is to be written.
        chunking: How the work is cut up that the bound on memory is for.
        terminal: Draw the table for a terminal.

    """
    problems = dict.fromkeys(problem_line(p, terminal=terminal) for plan in plans for p in plan.problems)
    rows = [
        (plan.recipe.name, f"{plan.file_nbytes:,}", f"{plan.bpw:.4f}", problem_counts(plan.problems), output)
        for plan, output in zip(plans, outputs, strict=True)
    ]
    titles = ("recipe", ">bytes", ">bits/weight", "?problems", "written to")
    encoded = [t for plan in plans for t in plan.tensors if t.action == "encode"]
    different = {(t.name, t.type, t.importance, t.search, t.feedback, t.symmetric, t.scale): t for t in encoded}
    memory = human_nbytes(peak_nbytes(plans[0], chunking, beside=plans[1:]))
    spent = about(different.values(), chunking, max(map(seconds_before, plans)))
    totals = (
        f"Together     {sizes(sum(plan.file_nbytes for plan in plans))}",
        f"To encode    {len(encoded):,} tensors, {len(different):,} of them different and each of these once",
        f"To apply     {memory} of memory at most, with {chunking.workers}{spent}",
    )
    parts = (
        "\n".join(problems),
        table(titles, rows, terminal=terminal),
        "\n".join(wrapped(line, terminal=terminal) for line in totals),
    )
    return "\n\n".join(filter(None, parts))
