"""A small model and what the planner decides about it: what the tests of decisions share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qxmix.container.imatrix import Imatrix
from qxmix.plan import Plan, PlannedTensor, make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import Model, Shape, facts, header

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYERS: dict[str, Shape] = {
    f"blk.{i}.{part}.weight": shape
    for i in range(8)
    for part, shape in {
        "attn_v": (256, 64),
        "ffn_up": (256, 512),
        "ffn_gate": (256, 512),
        "ffn_down": (512, 256),
    }.items()
}


def planned(
    tmp_path: Path, body: str, shapes: Mapping[str, Shape] = LAYERS, *, target: str = "ik_llama.cpp",
    default: str = "q4_k", entries: Mapping[str, int] | None = None, arch: str = "llama",
    types: Mapping[str, str] | None = None, n_expert: int = 0,
) -> Plan:  # fmt: skip
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\ntarget: {target}\ndefault: {default}\n{body}")
    known = facts(8, 256, 8, 2) | ({"expert_count": n_expert} if n_expert else {})
    model = Model(arch, known, shapes, types=types or {})
    imatrix = None
    if entries is not None:
        values = {name: np.ones(n, np.float32) for name, n in entries.items()}
        imatrix = Imatrix(Path("i.dat"), "0" * 64, values, (), 0)
    return make_plan(load_recipe(path), header(model), imatrix)


def one(plan: Plan, name: str) -> PlannedTensor:
    return next(t for t in plan.tensors if t.name == name)


def types(plan: Plan, part: str) -> list[str]:
    return [t.type for t in plan.tensors if part in t.name]


def problems(plan: Plan, severity: str = "error") -> list[str]:
    return [str(p) for p in plan.problems if p.severity == severity]
