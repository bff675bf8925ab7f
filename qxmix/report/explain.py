"""The way of one tensor through a plan, as text."""

from __future__ import annotations

from qxmix.explain import Explanation, Step, Tried
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.recipe.encoding import Factor
from qxmix.recipe.model import SEARCHES
from qxmix.report.text import human_nbytes, wrapped

_SYMMETRIC = "Levels: evenly around zero, without a search"
_MANY = 40
"""Rules from which on those that nobody thinks of for a tensor are counted instead of listed."""


def explanation_text(plan: Plan, found: Explanation, *, terminal: bool) -> str:
    """One step a line: gate, rules, adjustments and fallbacks, importance, bytes."""
    tensor = found.tensor
    shape = " x ".join(map(str, tensor.source.shape))
    lines = [f"{tensor.name}: {shape}, {tensor.source_type}, {human_nbytes(tensor.source.nbytes)}", ""]
    lines.append(f"Gate: {found.gate}" if found.gate else "Gate: the engines quantize it, so rules are asked")
    n_far = sum(map(_is_far, found.tried)) if len(found.tried) > _MANY else 0
    for tried in found.tried:
        lines += [] if n_far and _is_far(tried) else [_line(tried)]
        lines += [_step_line(i, step) for i, step in enumerate(found.steps)] if tried.decides else []
    if n_far:
        lines.append(f"  and {n_far:,} rules for other kinds of model or other parts")
    if found.tried and not any(t.decides for t in found.tried):
        lines.append("  no rule decides it" + ("" if found.gate else f", so it gets the default {plan.recipe.default}"))
    lines += ["", f"Type: {tensor.reason}" if not tensor.kept else f"Kept: {tensor.kept}"]
    lines += _how(plan, tensor)
    was = f"{tensor.source.nbytes:,} as {tensor.source_type} in the model"
    lines.append(f"Size: {tensor.type}, {tensor.nbytes:,} bytes, {_bpw(tensor):.4f} bits per weight; {was}")
    lines += [f"{p.severity.capitalize()}: {p}" for p in plan.problems if tensor.name in str(p)]
    return "\n".join(wrapped(line, terminal=terminal) for line in lines)


def _is_far(tried: Tried) -> bool:
    """Rules of which nobody thinks for this tensor: those of another category, name or model."""
    return not tried.decides and tried.why_not.startswith(("category", "match", "when: the model's"))


def _line(tried: Tried) -> str:
    where = f"  {tried.rule.where}: {tried.rule.selector} -> {tried.rule.type}"
    if tried.decides:
        return f"{where}: selects and decides it"
    return f"{where}: does not select it; {tried.why_not}" if tried.why_not else f"{where}: would select it, too"


def _step_line(number: int, step: Step) -> str:
    if step.why_not:
        return f"    adjust[{number}]: does not make it {step.type}; {step.why_not}"
    return f"    adjust[{number}]: makes it {step.type} instead of {step.so_far}"


def _how(plan: Plan, tensor: PlannedTensor) -> list[str]:
    if tensor.action == "copy":
        return ["Encoding: none, its bytes are carried over"]
    weighted = f"entry {tensor.importance}" if tensor.importance else "none"
    if plan.imatrix is None:
        weighted = "none, for no matrix is given"
    elif tensor.quant_type is not None and tensor.quant_type.importance == "ignored":
        weighted = f"none, for {tensor.type} does not read any"
    elif tensor.rule is not None and not plan.recipe.rules[tensor.rule].imatrix:
        weighted = "none, for its rule says 'imatrix: false'"
    lines = [f"Importance: {weighted}"]
    if tensor.feedback is not None:
        lines.append(f"Feedback: errors are taken back by the moments' entry {tensor.feedback.entry}")
    if tensor.quant_type is not None and tensor.quant_type.searches:
        alike = ", every column counting 1" if tensor.counts_alike else ""
        lines.append(f"Search: {tensor.search or SEARCHES[0]}{alike}" if not tensor.symmetric else _SYMMETRIC)
    elif tensor.heeds_search:
        lines.append("Search: exhaustive, which moves blocks that sit on a lattice and no others")
    if tensor.scale is not None:
        lines.append(f"Scales: {_factor(tensor.scale)}")
    return lines


def _factor(scale: Factor) -> str:
    return "times the factor that is found to be best" if scale == "auto" else f"times {scale:g}"


def _bpw(tensor: PlannedTensor) -> float:
    return 8 * tensor.nbytes / max(1, tensor.source.n_weights)
