"""What in a recipe is probably not what its author meant, seen against a model.

The planner reports what it cannot do and what costs something; here are the suspicions: rules that others take
tensors from, patterns that hit more or less than they seem to, tensors that nobody thought of.  Each has an id by which
a recipe or a rule silences it with a reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix.errors import Place, Problem, severity_order
from qxmix.planning import bits
from qxmix.planning.make import make_chooser
from qxmix.planning.silence import is_silenced
from qxmix.planning.view import ModelView
from qxmix.quants import get
from qxmix.recipe.categories import layer_of, part_of
from qxmix.recipe.model import DEFAULT, Rule
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from qxmix.plan import Plan, PlannedTensor

_NEARLY_ALL = 0.9
"""Share of a part's layers from which on the rest looks forgotten rather than meant."""
_FEW = 0.1
"""Share of the weights up to which what no rule names looks forgotten."""
_MIN_LAYERS = 8
_WORTH_SAYING = 1.005


def examined(plan: Plan, *, notes: bool = False) -> Plan:
    """The plan with what :func:`lint` says among its problems, errors first: what plan shows and apply goes by.

    Args:
        plan: The plan; one that was examined already stays as it is.
        notes: Also what is no more than a note, for whoever asks with ``qxmix lint``.

    """
    found = (p for p in lint(plan) if notes or p.severity != "note")
    return replace(plan, problems=tuple(sorted(dict.fromkeys((*plan.problems, *found)), key=severity_order)))


def refused(problems: Iterable[Problem], *, strict: bool) -> tuple[Problem, ...]:
    """Those for which nothing may be written: errors, and where it is strict warnings, too."""
    severities = ("error", "warning") if strict else ("error",)
    return tuple(p for p in problems if p.severity in severities)


def lint(plan: Plan) -> tuple[Problem, ...]:
    """Suspicions about the recipe of a plan, warnings first, without those that it silences.

    Only the recipe's own rules are looked at, not those of the recipes it extends.
    """
    view = _View(plan)
    checks: tuple[Callable[[_View], Iterable[Problem]], ...] = (
        _partly_shadowed,
        _match_order,
        _unanchored,
        _layer_gaps,
        _leftovers,
        _gate_and_up,
        _bits,
    )
    found = [p for check in checks for p in check(view) if p.id not in plan.recipe.silence]
    return tuple(sorted(found, key=severity_order))


class _View:
    """A plan as the checks look at it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rules: dict[int, Rule] = {i: r for i, r in enumerate(plan.recipe.rules) if r.source == 0}
        self.quantizable = [i for i, t in enumerate(plan.tensors) if t.rule is not None or not t.kept]
        tensors = bits.from_indices(self.quantizable)
        chooser = make_chooser(plan.recipe, ModelView(plan.header), tensors, imatrix=plan.imatrix)
        self.selected = {i: bits.indices(chooser.selected(rule, tensors)) for i, rule in self.rules.items()}

    def tensor(self, index: int) -> PlannedTensor:
        return self.plan.tensors[index]

    def decided_by(self, rule: int, indices: Sequence[int]) -> list[int]:
        return [i for i in indices if self.plan.tensors[i].rule == rule]

    def problem(self, rule: int, text: str, severity: str, id_: str) -> Iterator[Problem]:
        if id_ not in self.rules[rule].silence:
            yield Problem(self.rules[rule].where, text, "warning" if severity == "warning" else "note", id_)


def _partly_shadowed(view: _View) -> Iterator[Problem]:
    """Often meant: the special case before the general one.  So it is a note, and says who takes what."""
    for rule, selected in view.selected.items():
        lost: dict[int, list[str]] = defaultdict(list)
        for i in selected:
            taker = view.tensor(i).rule
            if taker is not None and taker < rule:
                lost[taker].append(view.tensor(i).name)
        n_lost = sum(map(len, lost.values()))
        if 0 < n_lost < len(selected):
            takers = ", ".join(
                f"{_place(view.plan.recipe.rules[r])} takes {_names(names)}" for r, names in sorted(lost.items())
            )
            text = f"decides {len(selected) - n_lost} of the {len(selected)} tensors it selects: {takers}"
            yield from view.problem(rule, text, "note", "rule-partly-shadowed")


def _match_order(view: _View) -> Iterator[Problem]:
    """Tools disagree about which rule wins, and llama.cpp did from one release to the next."""
    last: dict[int, int] = {}
    for rule, selected in view.selected.items():
        last.update(dict.fromkeys(selected, rule))
    recipe = view.plan.recipe
    differ = [
        i
        for i, rule in last.items()
        if not any(is_silenced(recipe, r, "match-order") for r in (rule, view.tensor(i).rule))
        # A rule that adjusts says less by its type than what it comes to.
        and not recipe.rules[rule].adjust
        and view.tensor(i).rule != rule
        and _word(recipe.rules[rule].type, recipe.default) != view.tensor(i).requested
    ]
    if differ:
        example, other = view.tensor(min(differ)), recipe.rules[last[min(differ)]]
        text = (
            f"the first rule that selects a tensor decides; if the last one did, {len(differ)} tensors would get "
            f"another type, like {example.name} {other.type} instead of {example.requested} ({_place(other)})"
        )
        yield Problem("", text, "note", "match-order")


def _word(type_name: str, default: str) -> str:
    return default if type_name == DEFAULT else type_name


def _unanchored(view: _View) -> Iterator[Problem]:
    for rule, selected in view.selected.items():
        pattern = view.rules[rule].match
        names = [view.tensor(i).name for i in selected]
        attention = [n for n in names if n.endswith("attn_output.weight")]
        if pattern is None or not attention or not search(pattern, "output.weight", view.rules[rule].where):
            continue
        if len(attention) + ("output.weight" in names) != len(names):
            continue  # it takes others, too, so it is general on purpose
        n_taken = len(view.decided_by(rule, [i for i in selected if view.tensor(i).name != "output.weight"]))
        text = f"'{pattern}' is for output.weight and also selects {len(attention)} tensors like {attention[0]}"
        text += f", and decides {n_taken} of them" if n_taken else ", which rules before it decide"
        severity = "warning" if n_taken else "note"
        yield from view.problem(rule, f"{text}; anchor it: '^output\\.weight$'", severity, "output-unanchored")


def _layer_gaps(view: _View) -> Iterator[Problem]:
    named: dict[str, dict[int, bool]] = defaultdict(dict)
    meant = set()
    for i in view.quantizable:
        tensor = view.tensor(i)
        layer = layer_of(tensor.name)
        if layer is not None:
            named[part_of(tensor.name)][layer] = tensor.rule is not None
        if is_silenced(view.plan.recipe, tensor.rule, "layer-gap"):
            meant.add(part_of(tensor.name))
    for part, layers in named.items():
        forgotten = sorted(layer for layer, by_rule in layers.items() if not by_rule) if part not in meant else []
        if forgotten and len(layers) >= _MIN_LAYERS and len(layers) - len(forgotten) >= _NEARLY_ALL * len(layers):
            numbers = ", ".join(map(str, forgotten))
            text = (
                f"rules name {len(layers) - len(forgotten)} of the {len(layers)} layers of {part}; layer {numbers} "
                f"gets the default {view.plan.recipe.default}; does a pattern leave it out?"
            )
            yield Problem(_default(view), text, "warning", "layer-gap")


def _leftovers(view: _View) -> Iterator[Problem]:
    if not view.rules:
        return
    rest = [view.tensor(i) for i in view.quantizable if view.tensor(i).rule is None]
    if not rest:
        return
    parts: dict[str, list[PlannedTensor]] = defaultdict(list)
    for tensor in rest:
        parts[part_of(tensor.name)].append(tensor)
    kinds = ", ".join(f"{len(found)} {part}" for part, found in sorted(parts.items(), key=lambda p: -len(p[1]))[:6])
    more = f" and {len(parts) - 6} more kinds" if len(parts) > 6 else ""  # noqa: PLR2004 - what fits a line
    text = f"{len(rest)} tensors that no rule names get the default {view.plan.recipe.default}: {kinds}{more}"
    n_weights = sum(t.source.n_weights for t in rest)
    few = n_weights <= _FEW * sum(view.tensor(i).source.n_weights for i in view.quantizable)
    if few:
        yield Problem(_default(view), text + "; is that meant?", "warning", "default-leftover")
    else:
        yield Problem(_default(view), text, "note", "default-used")


def _gate_and_up(view: _View) -> Iterator[Problem]:
    recipe = view.plan.recipe
    # Kept ones are looked at as well: the engine does not ask who chose a type.
    types = {t.name: t.type for t in view.plan.tensors if not is_silenced(recipe, t.rule, "gate-up-differ")}
    pairs = [(name, name.replace("ffn_gate", "ffn_up")) for name in types if "ffn_gate" in name]
    differ = [(gate, up) for gate, up in pairs if up in types and types[gate] != types[up]]
    if differ:
        gate, up = differ[0]
        text = (
            f"{len(differ)} layers have ffn_gate and ffn_up of different types, like {gate} {types[gate]} and {up} "
            f"{types[up]}; ik_llama.cpp's fused kernel for the two wants one type"
        )
        yield Problem("", text, "warning", "gate-up-differ")


def _bits(view: _View) -> Iterator[Problem]:
    recipe = view.plan.recipe
    weights: Counter[tuple[str, str]] = Counter()
    for t in view.plan.tensors:
        if t.action == "encode" and not is_silenced(recipe, t.rule, "bits-above-requested"):
            weights[t.requested, t.type] += t.source.n_weights
    asked = sum(get(requested).bpw * n for (requested, _), n in weights.items())
    got = sum(get(given).bpw * n for (_, given), n in weights.items())
    n_weights = weights.total()
    if asked and got / asked >= _WORTH_SAYING:
        text = (
            f"the types asked for have {asked / n_weights:.3f} bits per weight over the encoded tensors, "
            f"those that fit have {got / n_weights:.3f}"
        )
        yield Problem("", text, "note", "bits-above-requested")


def _names(names: Sequence[str]) -> str:
    return f"{len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"


def _place(rule: Rule) -> str:
    return rule.where.path


def _default(view: _View) -> Place:
    return view.plan.recipe.places["default"]
