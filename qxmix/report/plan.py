"""A plan as text: problems first, then what becomes of the tensors, what it costs, and the sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from qxmix.errors import Problem
from qxmix.planning.effort import seconds, seconds_before
from qxmix.planning.fallback import nominal_nbytes
from qxmix.planning.kept import Kept
from qxmix.planning.memory import Chunking, peak_nbytes
from qxmix.planning.metadata import changes
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.planning.naming import default_name
from qxmix.quants import get
from qxmix.report.groups import group, layer_ranges
from qxmix.report.inspect import file_type_name
from qxmix.report.problems import problem_line
from qxmix.report.text import duration, human_nbytes, is_longer_than_screen, table, wrapped


def plan_text(plan: Plan, chunking: Chunking, *, every: bool = False, output: str = "", terminal: bool = False) -> str:
    """The whole plan.

    Args:
        plan: The plan.
        chunking: How the work is cut up that the bound on memory is for.
        every: One line for each tensor instead of each group.
        output: Where it is to be written; empty for the name that it gets without ``-o``.
        terminal: Draw tables for a terminal.

    Returns:
        Lines without a newline at the end.

    """
    sections = [
        wrapped(headline(plan), terminal=terminal),
        problems_text(plan, terminal=terminal),
        _tensor_table(plan, terminal=terminal) if every else _group_table(plan, terminal=terminal),
        "" if every else _kept_text(plan, terminal=terminal),
        _fallback_table(plan, terminal=terminal),
        _type_table(plan, terminal=terminal),
        _metadata_text(plan, terminal=terminal),
        _totals_text(plan, chunking, output, terminal=terminal),
        # Again at the end, as a long plan scrolls its beginning away.
        problem_counts(plan.problems) if any(p.severity != "note" for p in plan.problems) else "",
    ]
    shown = "\n\n".join(section for section in sections if section)
    again = tuple(p for p in plan.problems if p.severity != "note")
    if terminal and again and is_longer_than_screen(shown):
        return f"{shown}\n\n{problems_text(replace(plan, problems=again), terminal=terminal)}"
    return shown


def headline(plan: Plan) -> str:
    """Recipe, target and model in one line."""
    n_weights = sum(t.source.n_weights for t in plan.tensors)
    target = "both engines" if plan.recipe.target == "any" else plan.recipe.target
    arch = plan.header.architecture or "no architecture"
    return (
        f"Recipe {plan.recipe.name} for {target}; model {plan.header.path.name}: "
        f"{arch}, {len(plan.tensors):,} tensors, {count_weights(n_weights)} weights"
    )


def problems_text(plan: Plan, *, terminal: bool = False) -> str:
    """One line for each problem, errors first; empty where there is none."""
    return "\n".join(problem_line(p, terminal=terminal) for p in plan.problems)


def problem_counts(problems: Iterable[Problem]) -> str:
    """``2 errors, 1 warning, 1 note``; empty where there is none."""
    counts = Counter[str](p.severity for p in problems)
    kinds = (("error", "errors"), ("warning", "warnings"), ("note", "notes"))
    return ", ".join(f"{counts[one]:,} {one if counts[one] == 1 else many}" for one, many in kinds if counts[one])


def _totals_text(plan: Plan, chunking: Chunking, output: str = "", *, terminal: bool = False) -> str:
    """Size, bits per weight, file type, memory."""
    files = f" in {len(plan.files)} files" if len(plan.files) > 1 else ""
    headers = sum(len(f.header) for f in plan.files)
    memory = human_nbytes(peak_nbytes(plan, chunking))
    file_type = "no id describes it" if plan.file_type is None else f"{plan.file_type} {file_type_name(plan.file_type)}"
    spent = about(plan.tensors, chunking, seconds_before(plan))
    lines = [
        f"Output       {sizes(plan.file_nbytes)}, {plan.file_nbytes:,} bytes{files}",
        f"  of which   {sizes(plan.data_nbytes)} tensors, {human_nbytes(headers)} header",
        f"Bits/weight  {plan.bpw:.4f} over all tensors, {plan.quantized_bpw:.4f} over the encoded ones",
        f"File type    {file_type}",
        f"To apply     {memory} of memory at most, with {chunking.workers}{spent}",
        f"Written to   {output or default_name(plan)}",
    ]
    if len(plan.files) > 1:
        lines += [f"  {f.suffix.removeprefix('-')}  {sizes(f.nbytes)}, {f.nbytes:,} bytes" for f in plan.files]
    return "\n".join(wrapped(line, terminal=terminal) for line in lines)


def about(tensors: Iterable[PlannedTensor], chunking: Chunking, before: float) -> str:
    """``, about 3 min``: of encoders as fast as on the processor that they were measured on, ``before`` the first."""
    return f", about {duration(max(1.0, before + sum(map(seconds, tensors)) / chunking.n_workers))}"


def sizes(nbytes: int) -> str:
    """``352.822 GiB (378.84 GB)``: what llama.cpp prints and what shops and hubs do; MiB and MB below 1 GiB."""
    if nbytes < 1 << 30:
        return f"{nbytes / (1 << 20):.3f} MiB ({nbytes / 1e6:.2f} MB)"
    return f"{nbytes / (1 << 30):.3f} GiB ({nbytes / 1e9:.2f} GB)"


def count_weights(n: int) -> str:
    """``671.03 B`` weights, ``134.5 M``."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return str(n)


def decided_by(plan: Plan, tensor: PlannedTensor) -> str:
    """``default``, or file and line of the rule without folders: ``q4_k_m.yaml:12``."""
    if tensor.rule is None:
        return "default"
    place = plan.recipe.rules[tensor.rule].where
    return f"{place.file.rpartition('/')[2]}:{place.line}"


def change(tensor: PlannedTensor) -> str:
    """``Q4_K``, or with a fallback ``Q4_K -> Q5_0``."""
    if tensor.requested == tensor.type:
        as_it_is = tensor.action == "copy" and not tensor.kept
        return f"{tensor.type} (is already)" if as_it_is else tensor.type
    return f"{tensor.requested} -> {tensor.type}"


def _group_table(plan: Plan, *, terminal: bool) -> str:
    groups = [g for g in group(plan) if not g.first.kept]
    named = any(_search_text(g.first) for g in groups)
    scaled = any(_scale_text(g.first) for g in groups)
    rows = [
        (
            g.part,
            g.layers,
            f"{len(g.tensors):,}",
            change(g.first),
            human_nbytes(g.nbytes),
            f"{g.bpw:.3f}",
            decided_by(plan, g.first),
            *([_search_text(g.first)] if named else []),
            *([_scale_text(g.first)] if scaled else []),
        )
        for g in groups
    ]
    more = (*(["search"] if named else []), *(["scale"] if scaled else []))
    titles = ("tensors", "layers", ">n", "type", ">size", "?>bpw", "?by", *more)
    return table(titles, rows, terminal=terminal) if rows else ""


def _search_text(tensor: PlannedTensor) -> str:
    """The search that the recipe names for a tensor, and where it can change nothing; empty where none is named."""
    if tensor.search is None or tensor.action == "copy":
        return ""
    if tensor.quant_type is None or not tensor.heeds_search:
        return f"{tensor.search}: changes nothing"
    if tensor.quant_type.finds_lattices:
        return f"{tensor.search}: blocks on a lattice"
    return f"{tensor.search}, columns alike" if tensor.counts_alike else tensor.search


def _scale_text(tensor: PlannedTensor) -> str:
    """``symmetric``, or what the scales of a tensor are multiplied with; empty where that is the engine's own."""
    if tensor.symmetric:
        return "symmetric"
    return "" if tensor.scale is None else f"{tensor.scale}"


def _kept_text(plan: Plan, *, terminal: bool) -> str:
    kept: dict[tuple[Kept, str], list[PlannedTensor]] = defaultdict(list)
    for tensor in plan.tensors:
        if tensor.kept:
            kept[tensor.kept, tensor.type].append(tensor)
    lines = []
    for (reason, name), tensors in kept.items():
        size = human_nbytes(sum(t.nbytes for t in tensors))
        lines.append(wrapped(f"Kept: {len(tensors):,} {name} ({size}): {reason}", terminal=terminal))
    return "\n".join(lines)


def _metadata_text(plan: Plan, *, terminal: bool) -> str:
    """What the recipe changes in the metadata, a line for each key; empty where it changes nothing."""
    rows = [(key, was or "-", now or "-") for key, was, now in changes(plan.recipe, plan.header)]
    return table(("metadata", "was", "is"), rows, terminal=terminal) if rows else ""


def _tensor_table(plan: Plan, *, terminal: bool) -> str:
    rows = [
        (t.name, " x ".join(map(str, t.source.shape)), t.source_type, change(t), f"{t.nbytes:,}", t.reason)
        for t in plan.tensors
    ]
    return table(("tensor", "?shape", "?from", "type", "?>bytes", "why"), rows, terminal=terminal)


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
        extra = sum(t.nbytes - nominal_nbytes(get(wanted), t.source) for t in tensors)
        layers = layer_ranges(t.name for t in tensors)
        where = f"layers {layers}" if layers else tensors[0].name
        size = ("+" if extra >= 0 else "-") + human_nbytes(round(abs(extra)))
        rows.append((wanted, effective, f"{len(tensors):,}", size, f"{8 * extra / n_weights:+.3f}", where))
    columns = ("fallback from", "to", ">n", ">size", "?>bpw", "where")
    return table(columns, rows, terminal=terminal)


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
    return table(("type", ">tensors", ">size", ">share"), rows, terminal=terminal) if rows else ""
