"""A plan as JSON; its shape is ``schemas/plan.schema.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qxmix.container.imatrix import Imatrix
from qxmix.importance.coverage import coverage
from qxmix.planning.memory import Chunking, peak_nbytes
from qxmix.planning.metadata import changes
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.recipe.model import SEARCHES
from qxmix.report.imatrix import coverage_json
from qxmix.report.problems import problem_json

Json = dict[str, object]


def plan_json(plan: Plan, chunking: Chunking, *, beside: Sequence[Plan] = ()) -> Json:
    """The plan with all its tensors, ready for ``json.dumps``; the memory is that to make it ``beside`` others."""
    recipe, header = plan.recipe, plan.header
    return {
        "qxmix_plan": 1,
        "recipe": {
            "name": recipe.name,
            "path": str(recipe.path),
            "sha256": recipe.sha256,
            "target": recipe.target,
            "sources": [{"name": s.name, "sha256": s.sha256} for s in recipe.sources],
        },
        "model": {
            "paths": [str(p) for p in header.paths],
            "architecture": header.architecture,
            "nbytes": sum(header.file_nbytes),
        },
        "imatrix": None if plan.imatrix is None else _imatrix(plan, plan.imatrix),
        "moments": None if plan.moments is None else {"path": str(plan.moments.path), "sha256": plan.moments.sha256},
        "file_nbytes": plan.file_nbytes,
        "data_nbytes": plan.data_nbytes,
        "bpw": plan.bpw,
        "quantized_bpw": plan.quantized_bpw,
        "file_type": plan.file_type,
        "metadata": [{"key": key, "was": was or None, "is": now or None} for key, was, now in changes(recipe, header)],
        "peak_nbytes": {"n_workers": chunking.n_workers, "nbytes": peak_nbytes(plan, chunking, beside=beside)},
        "types": dict(Counter(t.type for t in plan.tensors).most_common()),
        "files": [{"suffix": f.suffix, "nbytes": f.nbytes, "header_nbytes": len(f.header)} for f in plan.files],
        "problems": [problem_json(p) for p in plan.problems],
        "tensors": [_tensor(t) for t in plan.tensors],
    }


def _imatrix(plan: Plan, imatrix: Imatrix) -> Json:
    read = {t.importance for t in plan.tensors}
    return {
        "path": str(imatrix.path),
        "sha256": imatrix.sha256,
        "prior": plan.recipe.imatrix.prior,
        "coverage": coverage_json(c for c in coverage(imatrix) if c.entry in read),
    }


def _tensor(tensor: PlannedTensor) -> Json:
    return {
        "name": tensor.name,
        "shape": list(tensor.source.shape),
        "source_type": tensor.source_type,
        "requested": tensor.requested,
        "type": tensor.type,
        "action": tensor.action,
        "rule": tensor.rule,
        "reason": tensor.reason,
        "importance": tensor.importance,
        "search": tensor.search or SEARCHES[0],
        "counts_alike": tensor.counts_alike,
        "symmetric": tensor.symmetric,
        "scale": tensor.scale,
        "feedback": None if tensor.feedback is None else tensor.feedback.options._asdict(),
        "nbytes": tensor.nbytes,
        "file": tensor.shard,
        "offset": tensor.offset,
    }
