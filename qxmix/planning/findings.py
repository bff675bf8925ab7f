"""What breaks a policy or deserves a look, once everything is decided; one problem per cause, not per tensor."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from qxmix.container.model import ModelHeader
from qxmix.errors import Problem, severity_order
from qxmix.planning.choose import Chooser, Decisions
from qxmix.planning.draft import Draft, names_of
from qxmix.planning.fallback import Step, Types, nominal_nbytes
from qxmix.planning.feedback import feedback_problems, without_moments
from qxmix.planning.loading import loading_problems, unloadable, where
from qxmix.planning.memory_limits import memory_problems
from qxmix.planning.metadata import edited
from qxmix.planning.model import Plan, Split
from qxmix.planning.rule_findings import expect_problems, rule_problems
from qxmix.planning.scales import scale_problems
from qxmix.planning.silence import unsilenced
from qxmix.planning.unweighted import importance_problems
from qxmix.planning.words import human_size
from qxmix.quants import QuantType
from qxmix.recipe.categories import part_of
from qxmix.recipe.model import Recipe
from qxmix.resources import data_dir

_PLAIN = ("F32", "F16", "BF16", "F64")
_TRANSFORMS = ("prism.hadamard.", "general.tensor_extra.")
"""Keys of llama.cpp that say how weights are stored: rotated by a Hadamard matrix, or with a precision of their own."""


def find_problems(
    plan: Plan, drafts: list[Draft], chooser: Chooser, decisions: Decisions, types: Types, split: Split
) -> tuple[Problem, ...]:
    """All problems of a plan, errors first, without those the recipe silences.

    Args:
        plan: The plan, its sizes known.
        drafts: What was decided about each of its tensors.
        chooser: The rules seen against the model.
        decisions: What they say of its tensors.
        types: The types by name.
        split: The split that was asked for.

    """
    recipe = plan.recipe
    found = [
        *_misfits(recipe, drafts, types),
        *_requantized(recipe, drafts),
        *importance_problems(plan, drafts),
        *feedback_problems(plan, drafts),
        *_limits(plan),
        *memory_problems(plan),
        *edited(recipe, plan.header).problems,
        *_shard_size(plan, split),
        *_growth(plan),
        *expect_problems(recipe, chooser, decisions),
        *rule_problems(recipe, chooser, decisions),
        *_fallbacks(recipe, drafts),
        *loading_problems(recipe, plan.header.path, drafts),
        *_no_effect(plan.header, drafts),
        *_transformed(plan.header, drafts),
        *_unwritten(drafts),
        *_searches(recipe, drafts),
        *scale_problems(plan, drafts),
    ]
    kept = [p for p in found if p.severity == "error" or p.id not in recipe.silence]
    return tuple(sorted(kept, key=severity_order))


def type_errors(recipe: Recipe, model: Path, drafts: list[Draft], types: Types) -> tuple[list[Problem], list[Problem]]:
    """Types that cannot be: those that follow from shapes, and those that no engine or encoder knows.

    Each is told of one draft as it is of many, so that one may stand for all that come out alike.
    """
    before = [*_misfits(recipe, drafts, types), *_requantized(recipe, drafts)]
    behind = [*unloadable(recipe, model, drafts), *_unwritten(drafts)]
    return before, behind


def type_warnings(recipe: Recipe, header: ModelHeader, drafts: list[Draft]) -> Iterator[Problem]:
    """What costs something or changes nothing, importance left aside; told of one draft for all that come out alike."""
    yield from without_moments(recipe, drafts)
    yield from _fallbacks(recipe, drafts)
    yield from loading_problems(recipe, header.path, drafts)
    yield from _no_effect(header, drafts)
    yield from _transformed(header, drafts)


def _misfits(recipe: Recipe, drafts: list[Draft], types: Types) -> Iterator[Problem]:
    groups: dict[tuple[int | None, str, str], list[Draft]] = defaultdict(list)
    for draft in drafts:
        if draft.error and draft.requested is not None:
            groups[draft.rule, draft.requested.name, draft.error].append(draft)
    for (rule, requested, error), members in groups.items():
        fitting = next(name for name in ("Q5_0", "F16") if all(types[name].fits(d.tensor.n_cols) for d in members))
        text = (
            f"{requested} cannot hold {names_of(members)}: {error}; choose another type, or write types to try "
            f"instead: 'fallback: [{fitting.lower()}]'"
        )
        yield Problem(where(recipe, rule), text, id="fallback-error")


def _requantized(recipe: Recipe, drafts: list[Draft]) -> Iterator[Problem]:
    members = [d for d in drafts if d.encodes and d.tensor.type not in _PLAIN]
    if members and not recipe.allow_requantize:
        types = ", ".join(dict.fromkeys(d.tensor.type for d in members))
        text = (
            f"already quantized to {types}; quantizing again adds to the loss of {names_of(members)}; "
            f"start from the F16 or BF16 model, or {_leave_to_requantize(recipe)}"
        )
        yield Problem(members[0].tensor.name, text, id="requantize")


def _leave_to_requantize(recipe: Recipe) -> str:
    """What to write; a shipped recipe is not the user's to change, so that one extends it."""
    own, root = recipe.path, data_dir("recipes")
    if not own.is_relative_to(root):
        return f"add the line 'allow_requantize: true' to {recipe.sources[0].name}"
    name = own.relative_to(root).with_suffix("").as_posix()
    return f"allow it by a recipe of three lines: 'qxmix: 1', 'extends: [{name}]' and 'allow_requantize: true'"


def _no_effect(header: ModelHeader, drafts: list[Draft]) -> Iterator[Problem]:
    """A copy under another name is rarely what was wanted."""
    if any(d.encodes for d in drafts):
        return
    if not drafts:
        why = "the model has no tensors, only metadata"
    elif header.get("general.type") == "adapter":
        why = "it is an adapter, whose tensors the engines never quantize; merge it into its model and quantize that"
    elif any(d.steps for d in drafts):
        why = "those that it does not keep have the types that they fall back to already"
    elif not all(d.kept for d in drafts):
        why = "those that it does not keep have the types asked for already"
    else:
        why = f"all tensors are kept, most because of this: {Counter(d.kept for d in drafts).most_common(1)[0][0]}"
    yield Problem(header.path.name, f"the plan encodes no tensor: {why}", "warning", "no-effect")


def _transformed(header: ModelHeader, drafts: list[Draft]) -> Iterator[Problem]:
    """Metadata that says how weights are stored stays with them, but was true of the weights before."""
    keys = [f.key for f in header.metadata if f.key.startswith(_TRANSFORMS)]
    if keys and any(d.encodes for d in drafts):
        text = (
            f"its metadata say that weights are stored rotated or with settings of their own ({keys[0]}); they stay, "
            "and the weights are quantized as they are stored: an engine that does not know the keys, or a scale that "
            "was found for other bits, gives garbage; compare the output with the model before it is used"
        )
        yield Problem(header.path.name, text, "warning", "transformed-weights")


def _growth(plan: Plan) -> Iterator[Problem]:
    source_nbytes = sum(t.source.nbytes for t in plan.tensors)
    grown = [t for t in plan.tensors if t.nbytes > t.source.nbytes]
    if plan.data_nbytes <= source_nbytes or not grown:
        return
    kinds = list(dict.fromkeys(f"{t.source_type} become {t.type}" for t in grown))
    more = f" and {len(kinds) - 2} more" if len(kinds) > 2 else ""  # noqa: PLR2004 - what fits a line
    text = (
        f"the output is larger than the model: {human_size(plan.data_nbytes)} of tensors instead of "
        f"{human_size(source_nbytes)} ({', '.join(kinds[:2])}{more}); larger types do not bring back what the model "
        "lost"
    )
    yield Problem("", text, "note", "larger-than-model")


def _limits(plan: Plan) -> Iterator[Problem]:
    limits = plan.recipe.limits
    exceeded = limits.exceeded(plan.bpw, plan.file_nbytes)
    if "limit-bpw" in exceeded:
        text = f"the plan has {plan.bpw:.4f} bits per weight and the limit is {limits.max_bpw:g}; {_largest(plan)}"
        yield Problem(plan.recipe.places["limits"].inner(".max_bpw"), text, id="limit-bpw")
    if limits.max_size is not None and "limit-size" in exceeded:
        left_nbytes = limits.max_size - (plan.file_nbytes - plan.data_nbytes)
        left_bpw = 8 * left_nbytes / max(1, sum(t.source.n_weights for t in plan.tensors))
        text = (
            f"the output has {plan.file_nbytes:,} bytes ({human_size(plan.file_nbytes)}) and the limit is "
            f"{limits.max_size:,} ({human_size(limits.max_size)}), which leaves {max(0, left_bpw):.3f} bits per weight "
            f"where the plan has {plan.bpw:.3f}; {_largest(plan)}"
        )
        yield Problem(plan.recipe.places["limits"].inner(".max_size"), text, id="limit-size")


def _shard_size(plan: Plan, split: Split) -> Iterator[Problem]:
    """A file of one tensor that is larger than asked for: a tensor is never split."""
    if split.max_nbytes is None:
        return
    larger = [f for f in plan.files if f.nbytes > split.max_nbytes]
    largest = max(plan.tensors, key=lambda t: t.nbytes, default=None)
    if larger and largest is not None:
        text = (
            f"{len(larger):,} of {len(plan.files):,} files are larger than the {split.max_nbytes:,} bytes asked for, "
            f"since a tensor is in one file: {largest.name} alone has {largest.nbytes:,}; "
            f"from {max(f.nbytes for f in larger):,} bytes on all would keep to it"
        )
        yield Problem(largest.name, text, "warning", "shard-size")


def _largest(plan: Plan) -> str:
    """Where there is most to save."""
    nbytes: Counter[tuple[str, str]] = Counter()
    for tensor in plan.tensors:
        nbytes[part_of(tensor.name), tensor.type] += tensor.nbytes
    (part, type_name), most = nbytes.most_common(1)[0]
    return f"the largest part is {part}, {human_size(most)} of {type_name}"


def _fallbacks(recipe: Recipe, drafts: list[Draft]) -> Iterator[Problem]:
    groups: dict[tuple[int | None, QuantType, QuantType, Step], list[Draft]] = defaultdict(list)
    for draft in unsilenced(recipe, drafts, "fallback"):
        if draft.steps and not draft.error and draft.requested is not None and draft.quant_type is not None:
            # The first step has the cause; further ones are about substitutes.
            groups[draft.rule, draft.requested, draft.quant_type, draft.steps[0]].append(draft)
    for (rule, requested, effective, step), members in groups.items():
        cost = sum(effective.nbytes(d.tensor.shape) - nominal_nbytes(requested, d.tensor) for d in members)
        text = f"{requested.name} -> {effective.name} for {names_of(members)} ({cost:+,.0f} bytes): {step.cause}"
        yield Problem(where(recipe, rule), text, "warning", "fallback")


def _unwritten(drafts: list[Draft]) -> Iterator[Problem]:
    unwritten: dict[str, list[Draft]] = defaultdict(list)
    unread: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        if not draft.encodes or draft.error:
            continue
        if draft.quant_type is None or not draft.quant_type.codec:
            unwritten[draft.type].append(draft)
        if draft.tensor.quant_type is None or not draft.tensor.quant_type.codec:
            unread[draft.tensor.type].append(draft)
    for type_name, members in unwritten.items():
        text = f"qxmix can size {type_name} and not write it, and {names_of(members)} would become it"
        where = members[0].tensor.name
        yield Problem(where, f"{text}; `qxmix types` lists what it writes", id="type-not-written")
    for type_name, members in unread.items():
        text = f"qxmix cannot read {type_name} weights, and {names_of(members)} would have to be"
        where = members[0].tensor.name
        yield Problem(where, f"{text}; keep such tensors as they are ('keep', or 'type: keep')", id="type-not-written")


def _searches(recipe: Recipe, drafts: list[Draft]) -> Iterator[Problem]:
    """A search that is asked for of types whose encoders have but one."""
    groups: dict[tuple[int | None, str], list[Draft]] = defaultdict(list)
    encoded = [d for d in drafts if d.encodes and not d.error and d.quant_type is not None]
    for draft in unsilenced(recipe, encoded, "search-unused"):
        rule = draft.rule if draft.rule is not None and recipe.rules[draft.rule].search is not None else None
        groups[rule, ""].append(draft)
    for (rule, _), members in groups.items():
        place = recipe.rules[rule].where.inner(".search") if rule is not None else recipe.places.get("search")
        search = recipe.rules[rule].search if rule is not None else recipe.search
        if place is None or any(d.quant_type is not None and d.quant_type.heeds(search) for d in members):
            continue
        types = ", ".join(dict.fromkeys(d.type for d in members))
        text = f"changes nothing: {types} of {names_of(members)} have one way of finding scales"
        yield Problem(place, f"{text}; 'qxmix types' tells which have more", "note", "search-unused")
