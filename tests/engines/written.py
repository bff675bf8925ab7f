"""Files that qxmix writes, for the engines to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxmix.container.header import read_header
from qxmix.container.imatrix_load import load_imatrix
from qxmix.execute import apply
from qxmix.plan import Plan, make_plan
from qxmix.planning.loading import why_not_run
from qxmix.quants import QUANT_TYPES, QuantType, get
from qxmix.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path


def encodable_types() -> list[QuantType]:
    """Types that qxmix writes, but for the floats."""
    return [t for t in QUANT_TYPES if t.codec and t.codec != "floats"]


def pure_recipe(folder: Path, type_name: str, engine: str) -> Path:
    """A recipe that makes every matrix ``type_name``, embeddings and output Q8_0, and what does not fit Q8_0, too.

    ``ffn_down`` has the rows of the demo models (192 and 448 weights) that ik_llama.cpp cannot multiply in some types.
    """
    hard = any(why_not_run(get(type_name), n) for n in (192, 448))
    down = "  - {match: ffn_down, type: q8_0}\n" if hard else ""
    path = folder / f"{type_name}.yaml"
    path.write_text(
        f"qxmix: 1\nname: {type_name}\ntarget: {engine}\ndefault: {type_name}\n"
        f"rules:\n  - {{category: [token_embd, output], type: q8_0}}\n{down}"
        "fallback: [q8_0]\nimatrix: {missing: warn}\n"
    )
    return path


def write(recipe: Path | str, model: Path, imatrix: Path | None, output: Path) -> Plan:
    """Plan and apply; the file is as long as planned."""
    plan = make_plan(load_recipe(recipe), read_header(model), load_imatrix(imatrix) if imatrix else None)
    apply(plan, output, overwrite=True)
    assert output.stat().st_size == plan.file_nbytes
    return plan
