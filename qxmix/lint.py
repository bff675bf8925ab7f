"""What in a recipe is probably not what its author meant, seen against a model.

The planner reports what it cannot do and what costs something; here are the suspicions: rules that others take
tensors from, patterns that hit more or less than they seem to, tensors that nobody thought of.  Each has an id by which
a recipe or a rule silences it with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from qxmix.container.imatrix import Imatrix
from qxmix.errors import Place, Problem, severity_order
from qxmix.plan import Plan
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.make import make_chooser
from qxmix.planning.model import Alike
from qxmix.planning.silence import is_silenced
from qxmix.planning.view import ModelView
from qxmix.quants import get
from qxmix.recipe.categories import layer_of
from qxmix.recipe.model import DEFAULT, Recipe, Rule
from qxmix.recipe.patterns import search

_NEARLY_ALL = 0.9
"""Share of a part's layers from which on the rest looks forgotten rather than meant."""
_FEW = 0.1
"""Share of the weights up to which what no rule names looks forgotten."""
_MIN_LAYERS = 8
_WORTH_SAYING = 1.005


def examined(plan: Plan, *, notes: bool = False, view: ModelView | None = None) -> Plan:
    """The plan with what :func:`lint` says among its problems, errors first: what plan shows and apply goes by.

    Args:
        plan: The plan; one that was examined already stays as it is.
        notes: Also what is no more than a note, for whoever asks with ``qxmix lint``.
        view: The view of its model that several plans share; None makes one.

    """
    found = (p for p in lint(plan, view) if notes or p.severity != "note")
    return replace(plan, problems=tuple(sorted(dict.fromkeys((*plan.problems, *found)), key=severity_order)))


def refused(problems: Iterable[Problem], *, strict: bool) -> tuple[Problem, ...]:
    """Those for which nothing may be written: errors, and where it is strict warnings, too."""
    severities = ("error", "warning") if strict else ("error",)
    return tuple(p for p in problems if p.severity in severities)


def lint(plan: Plan, view: ModelView | None = None) -> tuple[Problem, ...]:
    """Suspicions about the recipe of a plan, warnings first, without those that it silences.

    Only the recipe's own rules are looked at, not those of the recipes it extends.
    """
    return suspicions(plan.recipe, view or ModelView(plan.header), plan.alike, plan.imatrix)


def suspicions(
    recipe: Recipe, view: ModelView, alike: Sequence[Alike], imatrix: Imatrix | None = None
) -> tuple[Problem, ...]:
    """What :func:`lint` says of a plan, from what is decided alike in it, in the order of the first tensors."""
    seen = _View(recipe, view, alike, imatrix)
    checks: tuple[Callable[[_View], Iterable[Problem]], ...] = (
        _partly_shadowed,
        _match_order,
        _unanchored,
        _layer_gaps,
        _leftovers,
        _gate_and_up,
        _bits,
    )
    found = [p for check in checks for p in check(seen) if p.id not in recipe.silence]
    return tuple(sorted(found, key=severity_order))


class _View:
    """A plan as the checks look at it."""

    def __init__(self, recipe: Recipe, model: ModelView, alike: Sequence[Alike], imatrix: Imatrix | None) -> None:
        self.recipe, self.model, self.alike = recipe, model, alike
        self.rules: dict[int, Rule] = {i: r for i, r in enumerate(recipe.rules) if r.source == 0}
        self.quantizable = bits.union(a.tensors for a in alike if a.rule is not None or not a.kept)
        self.decided: dict[int, Tensors] = {}
        for a in alike:
            if a.rule is not None:
                self.decided[a.rule] = self.decided.get(a.rule, 0) | a.tensors
        chooser = make_chooser(recipe, model, self.quantizable, imatrix=imatrix)
        self.selected = {i: chooser.selected(rule, self.quantizable) for i, rule in self.rules.items()}

    @property
    def rest(self) -> Tensors:
        """What no rule names."""
        return self.quantizable & ~bits.union(self.decided.values())

    def name(self, index: int) -> str:
        return self.model.header.tensors[index].name

    def silenced(self, id_: str) -> Tensors:
        """Tensors of the rules that give a reason for such a problem."""
        return bits.union(tensors for rule, tensors in self.decided.items() if is_silenced(self.recipe, rule, id_))

    def problem(self, rule: int, text: str, severity: str, id_: str) -> Iterator[Problem]:
        if id_ not in self.rules[rule].silence:
            yield Problem(self.rules[rule].where, text, "warning" if severity == "warning" else "note", id_)


def _partly_shadowed(view: _View) -> Iterator[Problem]:
    """Often meant: the special case before the general one.  So it is a note, and says who takes what."""
    for rule, selected in view.selected.items():
        if not selected & ~view.decided.get(rule, 0):
            continue
        lost = {r: taken for r, tensors in sorted(view.decided.items()) if r < rule and (taken := tensors & selected)}
        n_lost = bits.union(lost.values()).bit_count()
        n_selected = selected.bit_count()
        if 0 < n_lost < n_selected:
            takers = ", ".join(
                f"{_place(view.recipe.rules[r])} takes {_names(view, tensors)}" for r, tensors in lost.items()
            )
            text = f"decides {n_selected - n_lost} of the {n_selected} tensors it selects: {takers}"
            yield from view.problem(rule, text, "note", "rule-partly-shadowed")


def _match_order(view: _View) -> Iterator[Problem]:
    """Tools disagree about which rule wins, and llama.cpp did from one release to the next."""
    recipe, heard = view.recipe, view.model.all & ~view.silenced("match-order")
    differ: dict[Tensors, tuple[Alike, Rule]] = {}
    seen = 0
    for number, selected in reversed(view.selected.items()):
        last, seen, rule = (
            selected & ~seen & heard & ~view.decided.get(number, 0),
            seen | selected,
            recipe.rules[number],
        )
        # A rule that adjusts says less by its type than what it comes to.
        if not last or rule.adjust or "match-order" in rule.silence:
            continue
        asked = _word(rule.type, recipe.default)
        others = (a for a in view.alike if a.requested != asked)
        differ |= {found: (a, rule) for a in others if (found := last & a.tensors)}
    if differ:
        example = min(differ, key=bits.first)
        index, (given, other) = bits.first(example), differ[example]
        text = (
            f"the first rule that selects a tensor decides; if the last one did, {bits.union(differ).bit_count()} "
            f"tensors would get another type, like {view.name(index)} {other.type} instead of {given.requested} "
            f"({_place(other)})"
        )
        yield Problem("", text, "note", "match-order")


def _word(type_name: str, default: str) -> str:
    return default if type_name == DEFAULT else type_name


def _unanchored(view: _View) -> Iterator[Problem]:
    for rule, selected in view.selected.items():
        pattern = view.rules[rule].match
        if pattern is None:
            continue
        names = {i: view.name(i) for i in bits.indices(selected)}
        attention = [n for n in names.values() if n.endswith("attn_output.weight")]
        if not attention or not search(pattern, "output.weight", view.rules[rule].where):
            continue
        output = bits.from_indices([i for i, n in names.items() if n == "output.weight"])
        if len(attention) + output.bit_count() != len(names):
            continue  # it takes others, too, so it is general on purpose
        n_taken = (view.decided.get(rule, 0) & selected & ~output).bit_count()
        text = f"'{pattern}' is for output.weight and also selects {len(attention)} tensors like {attention[0]}"
        text += f", and decides {n_taken} of them" if n_taken else ", which rules before it decide"
        severity = "warning" if n_taken else "note"
        yield from view.problem(rule, f"{text}; anchor it: '^output\\.weight$'", severity, "output-unanchored")


def _layer_gaps(view: _View) -> Iterator[Problem]:
    rest, meant = view.rest, view.silenced("layer-gap")
    parts = {part: found for part, tensors in view.model.parts.items() if (found := tensors & view.quantizable)}
    for part, found in sorted(parts.items(), key=lambda p: bits.first(p[1])):
        if found & meant or not found & rest or not found & ~rest:
            continue
        numbered = {i: layer for i in bits.indices(found) if (layer := layer_of(view.name(i))) is not None}
        layers = {layer: not rest >> i & 1 for i, layer in numbered.items()}
        forgotten = sorted(layer for layer, by_rule in layers.items() if not by_rule)
        if forgotten and len(layers) >= _MIN_LAYERS and len(layers) - len(forgotten) >= _NEARLY_ALL * len(layers):
            numbers = ", ".join(map(str, forgotten))
            text = (
                f"rules name {len(layers) - len(forgotten)} of the {len(layers)} layers of {part}; layer {numbers} "
                f"gets the default {view.recipe.default}; does a pattern leave it out?"
            )
            yield Problem(_default(view), text, "warning", "layer-gap")


def _leftovers(view: _View) -> Iterator[Problem]:
    rest = view.rest if view.rules else 0
    if not rest:
        return
    parts = [(part, found) for part, tensors in view.model.parts.items() if (found := tensors & rest)]
    parts.sort(key=lambda p: (-p[1].bit_count(), bits.first(p[1])))
    kinds = ", ".join(f"{found.bit_count()} {part}" for part, found in parts[:6])
    more = f" and {len(parts) - 6} more kinds" if len(parts) > 6 else ""  # noqa: PLR2004 - what fits a line
    text = f"{rest.bit_count()} tensors that no rule names get the default {view.recipe.default}: {kinds}{more}"
    few = view.model.n_weights(rest) <= _FEW * view.model.n_weights(view.quantizable)
    if few:
        yield Problem(_default(view), text + "; is that meant?", "warning", "default-leftover")
    else:
        yield Problem(_default(view), text, "note", "default-used")


def _gate_and_up(view: _View) -> Iterator[Problem]:
    pairs = view.model.gates_and_ups
    # Kept ones are looked at as well: the engine does not ask who chose a type.
    heard = bits.from_indices([i for pair in pairs for i in pair]) & ~view.silenced("gate-up-differ")
    types = {i: a.type for a in view.alike for i in bits.indices(a.tensors & heard)}
    differ = [(i, j) for i, j in pairs if i in types and j in types and types[i] != types[j]]
    if differ:
        gate, up = differ[0]
        text = (
            f"{len(differ)} layers have ffn_gate and ffn_up of different types, like {view.name(gate)} {types[gate]} "
            f"and {view.name(up)} {types[up]}; ik_llama.cpp's fused kernel for the two wants one type"
        )
        yield Problem("", text, "warning", "gate-up-differ")


def _bits(view: _View) -> Iterator[Problem]:
    weights: Counter[tuple[str, str]] = Counter()
    heard = view.model.all & ~view.silenced("bits-above-requested")
    for a in view.alike:
        if a.encodes:
            weights[a.requested, a.type] += view.model.n_weights(a.tensors & heard)
    asked = sum(get(requested).bpw * n for (requested, _), n in weights.items())
    got = sum(get(given).bpw * n for (_, given), n in weights.items())
    n_weights = weights.total()
    if asked and got / asked >= _WORTH_SAYING:
        text = (
            f"the types asked for have {asked / n_weights:.3f} bits per weight over the encoded tensors, "
            f"those that fit have {got / n_weights:.3f}"
        )
        yield Problem("", text, "note", "bits-above-requested")


def _names(view: _View, tensors: Tensors) -> str:
    n = tensors.bit_count()
    return f"{n} ({view.name(bits.first(tensors))}{', ...' if n > 1 else ''})"


def _place(rule: Rule) -> str:
    return rule.where.path


def _default(view: _View) -> Place:
    return view.recipe.places["default"]
