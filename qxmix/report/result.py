"""A finished apply as text or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qxmix.execute.complete import Complete
from qxmix.execute.deviation import Moved
from qxmix.execute.result import Result, TensorResult
from qxmix.plan import Plan
from qxmix.report.deviation import deviation_json, deviations_text
from qxmix.report.lattice import kept_json, kept_text
from qxmix.report.problems import problem_json
from qxmix.report.text import human_nbytes, wrapped

if TYPE_CHECKING:
    from qxmix.execute.verify import Verification

_KIB = 1024
_NAMED = 3
"""Most tensors with the same problem that are named."""


def results_text(plans: Sequence[Plan], results: Sequence[Result], *, terminal: bool = False) -> str:
    """What was written, how long it took and, if it was measured, how far the weights moved, output by output."""
    parts = [_written(plan, result, terminal=terminal) for plan, result in zip(plans, results, strict=True)]
    measured = any(t.deviation is not None for result in results for t in result.tensors)
    seconds = f"Took {results[0].seconds:.1f} s, {results[0].sync_seconds:.1f} s of them waiting for the disk"
    return ("\n\n" if measured else "\n").join([*parts, wrapped(seconds, terminal=terminal)])


def _written(plan: Plan, result: Result, *, terminal: bool) -> str:
    measured = [Moved(t.name, t.source_type, t.type, t.deviation) for t in result.tensors if t.deviation is not None]
    paths = [str(p) for p in result.paths]
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more shards"
    exact = f" ({result.nbytes:,} bytes)" if result.nbytes >= _KIB else ""
    lines = [f"Wrote {where}: {human_nbytes(result.nbytes)}{exact}, {plan.bpw:.3f} bits per weight"]
    if result.n_resumed:
        lines.append(f"Went on with an interrupted apply: {result.n_resumed:,} pieces were there already")
    if result.n_reused:
        lines.append(f"Took over {result.n_reused:,} tensors that had not changed")
    lines += [f"{p.severity.capitalize()}: {p}" for p in result.problems]
    lines = [wrapped(line, terminal=terminal) for line in lines]
    if measured:
        lines += ["", deviations_text(measured, terminal=terminal)]
    return "\n".join(lines)


def result_json(plan: Plan, result: Result) -> dict[str, object]:
    """The same as plain data, with the digests of all tensors; ``schemas/result.schema.json`` describes it."""
    return {
        "qxmix_result": 1,
        "paths": [str(p) for p in result.paths],
        "nbytes": result.nbytes,
        "bpw": plan.bpw,
        "source_sha256": result.source_sha256,
        "data_sha256": result.data_sha256,
        "n_resumed": result.n_resumed,
        "n_reused": result.n_reused,
        "seconds": round(result.seconds, 3),
        "sync_seconds": round(result.sync_seconds, 3),
        "problems": [problem_json(p) for p in result.problems],
        "tensors": [_tensor_json(t) for t in result.tensors],
    }


def complete_json(plan: Plan, found: Complete) -> dict[str, object]:
    """The same of an output that was there already, as far as it states it."""
    return {
        "qxmix_result": 1,
        "already_complete": True,
        "paths": [str(p) for p in found.paths],
        "nbytes": found.nbytes,
        "bpw": plan.bpw,
        "source_sha256": found.source_sha256,
        "data_sha256": found.data_sha256,
    }


def verification_text(found: Verification, *, terminal: bool = False) -> str:
    """What was compared, and what is wrong; the same of many tensors in one line."""
    places: dict[str, list[str]] = {}
    for problem in found.problems:
        places.setdefault(problem.text, []).append(str(problem.where))
    lines = [wrapped(f"Error: {_several(where)}: {text}", terminal=terminal) for text, where in places.items()]
    held = "compared" if found.problems else "as they were written"
    lines.append(f"{found.n_tensors:,} tensors {held}")
    if found.n_leaves:
        lines.append(f"{found.n_leaves:,} of {found.n_all_leaves:,} pieces made from the model again and compared")
    if found.lattices:
        lines += ["", kept_text(found.lattices, terminal=terminal)]
    return "\n".join(lines)


def _several(names: list[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED:,} more"


def verification_json(found: Verification) -> dict[str, object]:
    """The same as plain data; lattices where they were looked at."""
    lattices = {"lattices": [kept_json(kept) for kept in found.lattices]} if found.lattices else {}
    return {
        "holds": not found.problems,
        "n_tensors": found.n_tensors,
        "n_leaves": found.n_leaves,
        "n_all_leaves": found.n_all_leaves,
        "problems": [{"where": str(p.where), "text": p.text} for p in found.problems],
        **lattices,
    }


def _tensor_json(tensor: TensorResult) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": tensor.name,
        "source_type": tensor.source_type,
        "type": tensor.type,
        "action": tensor.action,
        "nbytes": tensor.nbytes,
        "sha256": tensor.sha256,
        "source_sha256": tensor.source_sha256,
    }
    if tensor.deviation is not None:
        entry["deviation"] = deviation_json(tensor.deviation)
    return entry
