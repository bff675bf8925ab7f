"""A plan as text: problems first, then what becomes of the tensors, what it costs, and the sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from qxmix.planning.memory import peak_nbytes
from qxmix.quants import get
from qxmix.report.groups import Group, group, layer_ranges
from qxmix.report.text import human_nbytes, table

if TYPE_CHECKING:
    from qxmix.planning.model import Plan, PlannedTensor

GIB = 1 << 30


def plan_text(plan: Plan, *, n_workers: int, every: bool = False, terminal: bool = False) -> str:
    """The whole plan.

    Args:
        plan: The plan.
        n_workers: How many workers the memory estimate is for.
        every: One line for each tensor instead of each group.
        terminal: Draw tables for a terminal.

    Returns:
        Lines without a newline at the end.

    """
    sections = [
        headline(plan),
        problems_text(plan),
        _tensor_table(plan, terminal=terminal) if every else _group_table(plan, terminal=terminal),
        _fallback_table(plan, terminal=terminal),
        _type_table(plan, terminal=terminal),
        totals_text(plan, n_workers),
    ]
    return "\n\n".join(section for section in sections if section)


def headline(plan: Plan) -> str:
    """Recipe, target and model in one line."""
    n_weights = sum(t.source.n_weights for t in plan.tensors)
    target = "both engines" if plan.recipe.target == "any" else plan.recipe.target
    arch = plan.header.architecture or "no architecture"
    return (
        f"Recipe {plan.recipe.name} for {target}; model {plan.header.path.name}: "
        f"{arch}, {len(plan.tensors):,} tensors, {count_weights(n_weights)} weights"
    )


def problems_text(plan: Plan) -> str:
    """One line for each problem, errors first; empty where there is none."""
    words = {"error": "Error", "warning": "Warning", "note": "Note"}
    return "\n".join(f"{words[p.severity]}: {p}" + (f" [{p.id}]" if p.id else "") for p in plan.problems)


def totals_text(plan: Plan, n_workers: int) -> str:
    """Size, bits per weight, file type, memory."""
    files = f" in {len(plan.files)} files" if len(plan.files) > 1 else ""
    headers = sum(len(f.header) for f in plan.files)
    workers = "1 worker" if n_workers == 1 else f"{n_workers} workers"
    lines = [
        f"Output       {sizes(plan.file_nbytes)}, {plan.file_nbytes:,} bytes{files}",
        f"  of which   {sizes(plan.data_nbytes)} tensors, {human_nbytes(headers)} header",
        f"Bits/weight  {plan.bpw:.4f} over all tensors, {plan.quantized_bpw:.4f} over the encoded ones",
        f"File type    {'none fits' if plan.file_type is None else plan.file_type}",
        f"Memory       {human_nbytes(peak_nbytes(plan, n_workers))} at most, with {workers}",
    ]
    if len(plan.files) > 1:
        lines += [f"  {f.suffix.removeprefix('-')}  {sizes(f.nbytes)}" for f in plan.files]
    return "\n".join(lines)


def sizes(nbytes: int) -> str:
    """``352.822 GiB (378.84 GB)``: what llama.cpp prints and what shops and hubs do."""
    return f"{nbytes / GIB:.3f} GiB ({nbytes / 1e9:.2f} GB)"


def count_weights(n: int) -> str:
    """``671.03 B`` weights, ``134.5 M``."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return str(n)


def _group_table(plan: Plan, *, terminal: bool) -> str:
    encoded = [g for g in group(plan) if not g.first.reason.startswith("kept")]
    rows: list[tuple[str, ...]] = [
        (
            g.part,
            g.layers,
            f"{len(g.tensors):,}",
            _change(g.first),
            human_nbytes(g.nbytes),
            f"{g.bpw:.3f}",
            _by(g.first),
        )
        for g in encoded
    ]
    rows += _kept_rows(plan)
    return table(("tensors", "layers", ">n", "type", ">size", ">bpw", "by"), rows, terminal=terminal)


def _kept_rows(plan: Plan) -> list[tuple[str, ...]]:
    kept: dict[tuple[str, str], list[PlannedTensor]] = defaultdict(list)
    for tensor in plan.tensors:
        if tensor.reason.startswith("kept"):
            kept[tensor.reason, tensor.type].append(tensor)
    rows: list[tuple[str, ...]] = []
    for (reason, name), tensors in kept.items():
        found = Group("kept", "", tuple(tensors))
        why = reason.removeprefix("kept").removeprefix(":").strip()
        size = human_nbytes(found.nbytes)
        rows.append(("kept", "", f"{len(tensors):,}", name, size, f"{found.bpw:.3f}", why))
    return rows


def _change(tensor: PlannedTensor) -> str:
    if tensor.action == "copy":
        return f"{tensor.type} (as it is)"
    wanted = "" if tensor.requested == tensor.type else f"{tensor.requested} -> "
    return f"{wanted}{tensor.type}"


def _by(tensor: PlannedTensor) -> str:
    """``rules[3] (recipe.yaml:12)`` or ``default``: the first part of the reason."""
    return tensor.reason.partition(";")[0]


def _tensor_table(plan: Plan, *, terminal: bool) -> str:
    rows = [
        (t.name, " x ".join(map(str, t.source.shape)), t.source_type, _change(t), f"{t.nbytes:,}", t.reason)
        for t in plan.tensors
    ]
    return table(("tensor", "shape", "from", "type", ">bytes", "why"), rows, terminal=terminal)


def _fallback_table(plan: Plan, *, terminal: bool) -> str:
    changed: dict[tuple[str, str], list[PlannedTensor]] = defaultdict(list)
    for tensor in plan.tensors:
        if tensor.requested != tensor.type:
            changed[tensor.requested, tensor.type].append(tensor)
    if not changed:
        return ""
    rows = []
    for (wanted, effective), tensors in changed.items():
        n_weights = sum(t.source.n_weights for t in tensors)
        extra = sum(t.nbytes for t in tensors) - get(wanted).bpw * n_weights / 8
        extra_bpw = 8 * extra / n_weights
        names = (
            sorted({t.name for t in tensors})
            if len(tensors) == 1
            else [f"layers {layer_ranges(t.name for t in tensors)}"]
        )
        sign = "+" if extra >= 0 else "-"
        rows.append(
            (
                wanted,
                effective,
                f"{len(tensors):,}",
                sign + human_nbytes(round(abs(extra))),
                f"{extra_bpw:+.3f}",
                names[0],
            )
        )
    title = "Fallbacks: the requested type cannot hold the rows"
    columns = ("requested", "effective", ">n", ">bytes", ">bpw", "where")
    return f"{title}\n{table(columns, rows, terminal=terminal)}"


def _type_table(plan: Plan, *, terminal: bool) -> str:
    counts: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for tensor in plan.tensors:
        counts[tensor.type] += 1
        nbytes[tensor.type] += tensor.nbytes
    total = max(1, plan.data_nbytes)
    rows = [
        (name, f"{counts[name]:,}", human_nbytes(size), f"{100 * size / total:.1f} %")
        for name, size in nbytes.most_common()
    ]
    return table(("type", ">tensors", ">size", ">share"), rows, terminal=terminal)
