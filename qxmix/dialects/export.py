"""A plan as a ``llama-quantize`` command line, proved to decide alike under that engine's own rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from qxmix import shells
from qxmix.dialects.items import spelled
from qxmix.dialects.mixes import FLOATS, default_type, mix_of
from qxmix.dialects.patterns import name_patterns
from qxmix.dialects.proof.arguments import Reading
from qxmix.dialects.proof.decide import source_types
from qxmix.errors import PlanError, Problem
from qxmix.plan import Plan, PlannedTensor
from qxmix.planning.gate import never_quantized
from qxmix.quants import Engine, get
from qxmix.recipe.encoding import Factor

_PLAIN_BASE = "Q8_0"


@dataclass(frozen=True, slots=True)
class Exported:
    """What to run."""

    engine: Engine
    base: str
    """The TYPE argument."""
    items: tuple[tuple[str, str], ...]
    """Patterns and types as the engine spells them, in order."""
    notes: tuple[str, ...]

    def list_text(self) -> str:
        """The items for ``--tensor-type-file``, one a line."""
        return "".join(f"{pattern}={kind}\n" for pattern, kind in self.items)

    def command(self, model: str, output: str, imatrix: str | None, list_file: str | None) -> str:
        """The command line; the items stand in it unless ``list_file`` has them."""
        pairs = [f"{pattern}={kind}" for pattern, kind in self.items]
        if self.engine == "ik_llama.cpp":
            options = [("--custom-q", pair) for pair in pairs]
        elif list_file:
            options = [("--tensor-type-file", list_file)]
        else:
            options = [("--tensor-type", pair) for pair in pairs]
        if imatrix:
            options.insert(0, ("--imatrix", imatrix))
        lines = ["llama-quantize", *(f"  {o} {shells.quoted(v)}" for o, v in options)]
        lines.append(f"  {shells.quoted(model)} {shells.quoted(output)} {self.base}")
        return shells.command_lines(lines)


def export(plan: Plan, engine: Engine) -> Exported:
    """Write a plan's types as options of an engine's ``llama-quantize``.

    Raises:
        PlanError: the engine cannot be told some of it; every such thing is named.

    """
    problems = [Problem(p.where, p.text) for p in plan.problems if p.severity == "error" and p.id == "fallback-error"]
    causes: dict[str, list[str]] = defaultdict(list)
    free: list[PlannedTensor] = []
    for tensor in plan.tensors:
        kept = never_quantized(tensor.source, (engine,), plan.header.architecture)
        if kept and tensor.type != tensor.source_type:
            causes[f"cannot become {tensor.type} with llama-quantize: {kept}"].append(tensor.name)
        elif not kept:
            free.append(tensor)
            if engine not in get(tensor.type).engines:
                causes[f"{tensor.type} is not a type of {engine}"].append(tensor.name)
    problems += [_problem(text, names) for text, names in causes.items()]
    if problems:
        raise PlanError(problems)
    base = _base(plan, engine)
    items = _items(free, engine)
    exported = Exported(engine, base, items, tuple(_notes(plan, base, engine)))
    _check(plan, exported)
    return exported


def _problem(text: str, names: list[str]) -> Problem:
    more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
    return Problem(f"{names[0]}{more}", text)


def _base(plan: Plan, engine: Engine) -> str:
    """The mix with the plan's file type; its own rules decide nothing, as the items name every tensor."""
    found = mix_of(plan.file_type, engine)
    return found if found and found != "COPY" and default_type(found) not in FLOATS else _PLAIN_BASE


def _items(tensors: list[PlannedTensor], engine: Engine) -> tuple[tuple[str, str], ...]:
    """Rare types by name, the one that takes most patterns by a catch-all behind them."""
    by_type: dict[str, list[str]] = defaultdict(list)
    for tensor in tensors:
        by_type[tensor.type].append(tensor.name)
    patterns = {kind: name_patterns(names) for kind, names in by_type.items()}
    if not patterns:
        return ()
    most = max(patterns, key=lambda kind: len(patterns[kind]))
    write = spelled if engine == "ik_llama.cpp" else str.lower
    named = [(p, write(kind)) for kind, found in patterns.items() if kind != most for p in found]
    return (*named, (".*", write(most)))


def _notes(plan: Plan, base: str, engine: Engine) -> list[str]:
    notes = []
    if plan.file_type is not None and mix_of(plan.file_type, engine) != base:
        notes.append(f"general.file_type will be that of {base}, not {plan.file_type}")
    if plan.file_type is None:
        notes.append(f"general.file_type will be that of {base}")
    lost = (t for t in plan.tensors if t.action == "encode" and (t.search not in {None, "gradient"} or t.counts_alike))
    searches = Counter(t.search for t in lost)
    notes += [
        f"'search: {name}' of {n} tensors is lost: the engine searches its own way" for name, n in searches.items()
    ]
    bare = [t.name for t in plan.tensors if t.rule is not None and not plan.recipe.rules[t.rule].imatrix]
    if bare:
        notes.append(f"'imatrix: false' of {len(bare)} tensors is lost: {engine} weights all or none, like {bare[0]}")
    notes += _variants([t for t in plan.tensors if t.action == "encode"], engine)
    if plan.recipe.allow_requantize:
        notes.append("add --allow-requantize where the model is quantized already")
    return notes


def _variants(tensors: list[PlannedTensor], engine: Engine) -> Iterator[str]:
    """Levels and factors that the engine is told for a whole type, or not at all."""
    by_type: dict[str, set[tuple[bool, Factor | None]]] = defaultdict(set)
    for tensor in tensors:
        by_type[tensor.type].add((tensor.symmetric, tensor.scale))
    for kind, ways in by_type.items():
        (symmetric, scale), *others = sorted(ways, key=str)
        if not others and not symmetric and scale is None:
            continue
        if others or scale == "auto" or engine != "ik_llama.cpp":
            yield f"'symmetric' and 'scale' of {kind} are lost: {engine} has no word for them"
        else:
            option = "--symmetric-q40" if symmetric else f"--fudge-factors {kind.lower()}={scale:g}"
            yield f"{option} says the same to a build of {engine} that has it (since August 2026)"


def _check(plan: Plan, exported: Exported) -> None:
    """Hold the items to the plan, under the engine's own rules of matching.

    Raises:
        PlanError: a tensor would get another type.

    """
    rules = tuple((pattern, get(kind).name) for pattern, kind in exported.items)
    asked = Reading(exported.engine, "export", rules, exported.base, has_imatrix=plan.imatrix is not None)
    types = source_types(asked, plan.header)
    wrong: dict[str, list[str]] = defaultdict(list)
    for tensor in plan.tensors:
        if (found := types[tensor.name]) != tensor.type:
            wrong[f"cannot be told to {exported.engine}: it would give {found}, not {tensor.type}"].append(tensor.name)
    if wrong:
        raise PlanError([_problem(text, names) for text, names in wrong.items()])
