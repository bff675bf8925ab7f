"""A plan as Markdown for a model card: the mix as a table, and the figures people look for."""

from __future__ import annotations

from qxmix.planning.model import Plan
from qxmix.report.groups import group
from qxmix.report.plan import change, count_weights, sizes
from qxmix.report.text import human_nbytes, markdown


def plan_markdown(plan: Plan) -> str:
    """A heading, the figures, the tensors by group, the fallbacks; no paths and no problems."""
    recipe = plan.recipe
    n_weights = sum(t.source.n_weights for t in plan.tensors)
    target = "llama.cpp and ik_llama.cpp" if recipe.target == "any" else recipe.target
    lines = [f"## {_cell(recipe.name)}", ""]
    if recipe.description:
        lines += [_cell(" ".join(recipe.description.split())), ""]
    lines += [
        f"{sizes(plan.file_nbytes)}, {plan.bpw:.4f} bits per weight, {count_weights(n_weights)} weights, for {target}. "
        f"Made with qxmix; recipe SHA-256 `{recipe.sha256}`"
        + (f", importance matrix SHA-256 `{plan.imatrix.sha256}`." if plan.imatrix else "."),
        "",
    ]
    groups = [g for g in group(plan) if not g.first.kept]
    rows = [
        (f"`{g.part}`", g.layers, str(len(g.tensors)), change(g.first), human_nbytes(g.nbytes), f"{g.bpw:.3f}")
        for g in groups
    ]
    n_kept = sum(bool(t.kept) for t in plan.tensors)
    if n_kept:
        nbytes = sum(t.nbytes for t in plan.tensors if t.kept)
        rows.append(("kept as they are", "", str(n_kept), "", human_nbytes(nbytes), ""))
    lines.append(markdown(("tensors", "layers", ">n", "type", ">size", ">bpw"), rows))
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A name may hold anything; a table only breaks on these."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
