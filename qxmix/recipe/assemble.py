"""The files of a recipe to one :class:`Recipe`: settings from the outside in, rules in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qxmix.errors import Place, Problem
from qxmix.quants import find
from qxmix.recipe.build import Builder, Scope, items
from qxmix.recipe.bundle import join
from qxmix.recipe.model import Recipe, Rule, Source

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

_INHERITED_BY_PURE = ("default", "fallback", "target")


@dataclass(slots=True, eq=False)
class RecipeFile:
    """One file of a recipe."""

    name: str
    """As messages call it: the path as given, or a shipped recipe's name."""
    path: Path
    text: str
    data: bytes
    root: dict[str, Node]
    """Its keys, without those whose structure is at fault."""
    parents: list[RecipeFile]
    """What it extends, in order."""
    sound: bool = True
    """Nothing was left out of ``root``, so that what is not there is missing."""


@dataclass(slots=True)
class _Build:
    """What grows while the files are walked."""

    files: list[RecipeFile]
    problems: list[Problem]
    settings: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    """Where each setting stands."""
    rules: list[Rule] = field(default_factory=list)
    seen: set[RecipeFile] = field(default_factory=set)
    """Files that are in already: of two files that extend the same one, the first brings its rules and settings."""
    scopes: dict[RecipeFile, Scope] = field(default_factory=dict)
    """The names each file can use, once they are known."""
    silences: dict[RecipeFile, dict[str, str]] = field(default_factory=dict)
    """What each file silences at its top, which is for the rules in it."""
    n_units: int = 1


def assemble(file: RecipeFile, files: list[RecipeFile], problems: list[Problem]) -> Recipe:
    """Build the recipe; what is wrong is added to ``problems`` and the recipe is then of no use.

    Args:
        file: The recipe itself.
        files: All files in reading order, the recipe itself first.
        problems: Grows.

    """
    build = _Build(files, problems)
    _merge(file, build, 0, with_rules=True)
    settings = build.settings
    if all(f.sound for f in files):
        problems += _missing(file, settings)
        problems += _foreign_types(build)
    hashes = [hashlib.sha256(f.data).hexdigest() for f in files]
    root = file.root
    if "silence" in root:
        build.places["silence"] = Place(file.name, root["silence"].line, "silence")
    return Recipe(
        name=str(root["name"].value) if "name" in root else file.path.stem,
        target=settings.pop("target", "any"),
        default=settings.pop("default", "F16"),
        rules=tuple(build.rules),
        path=file.path,
        places=build.places,
        text=join([f.text for f in files], [[files.index(p) for p in f.parents] for f in files]),
        description=str(root["description"].value) if "description" in root else "",
        sources=tuple(Source(f.name, h) for f, h in zip(files, hashes, strict=True)),
        sha256=hashes[0] if len(files) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        silence=build.silences[file],
        **settings,
    )


def _merge(file: RecipeFile, build: _Build, unit: int, *, with_rules: bool) -> None:
    """Add a file and then what it extends; a file without ``default`` is a part of who extends it."""
    if file in build.seen:
        return
    build.seen.add(file)
    builder = Builder(file.name, build.files.index(file), _names(file, build), build.problems)
    places = {key: Place(file.name, node.line, key) for key, node in file.root.items()}
    _inherit(build, builder.settings(file.root), places)
    if with_rules:
        silence = build.silences[file] = builder.silence(file.root.get("silence"), "silence", of_rule=False)
        nodes = enumerate(items(file.root.get("rules")))
        build.rules += [builder.rule(n, f"rules[{i}]", unit, silence) for i, n in nodes if n.value is not None]
    pure = "pure" in file.root and file.root["pure"].value is True
    for parent in file.parents:
        if "default" in parent.root:
            build.n_units += 1
        parent_unit = build.n_units - 1 if "default" in parent.root else unit
        if pure:
            apart = _Build(build.files, build.problems)
            _merge(parent, apart, parent_unit, with_rules=False)
            _inherit(build, {k: v for k, v in apart.settings.items() if k in _INHERITED_BY_PURE}, apart.places)
        else:
            _merge(parent, build, parent_unit, with_rules=with_rules)


def _inherit(build: _Build, settings: dict[str, Any], places: dict[str, Place]) -> None:
    """Take the settings that no file further out has.  A file type is that of a default, and useless with another."""
    other_default = "default" in build.settings
    for key, value in settings.items():
        if key not in build.settings and not (key == "file_type" and other_default):
            build.settings[key] = value
            build.places[key] = places[key]


def _names(file: RecipeFile, build: _Build) -> Scope:
    """The layer sets and conditions a file can use: those of what it extends, the first wins, then its own."""
    if (known := build.scopes.get(file)) is not None:
        return known
    scope = build.scopes[file] = Scope()
    for parent in reversed(file.parents):
        inherited = _names(parent, build)
        scope.layers.update(inherited.layers)
        scope.conditions.update(inherited.conditions)
    Builder(file.name, 0, scope, build.problems).names(file.root)
    return scope


def _missing(file: RecipeFile, settings: dict[str, Any]) -> Iterator[Problem]:
    where = Place(file.name, 1)
    if "default" not in settings:
        text = "it says what a tensor gets that no rule selects, for example 'default: q4_k'"
        yield Problem(where, f"the key 'default' is missing; {text}")
    if "target" not in settings:
        text = "write the engine that is to load the model: llama.cpp, ik_llama.cpp or any"
        yield Problem(where, f"the key 'target' is missing; {text}")
    if settings.get("target") == "any" and "fallback" not in settings:
        text = (
            "with 'target: any' it must be written, as the two engines fall back differently; 'error' is the safe one"
        )
        yield Problem(where, f"the key 'fallback' is missing; {text}")


def _foreign_types(build: _Build) -> Iterator[Problem]:
    """Types that an engine which is to load the result does not know."""
    target = build.settings.get("target", "any")
    engines = ("llama.cpp", "ik_llama.cpp") if target == "any" else (target,)
    places = []
    if "default" in build.settings:
        places.append((build.places["default"], str(build.settings["default"])))
    for rule in build.rules:
        places.append((rule.where.inner(".type"), rule.type))
        places += [(rule.where.inner(f".adjust[{i}].type"), step.type) for i, step in enumerate(rule.adjust)]
        if rule.fallback is not None:
            places += [(rule.where.inner(".fallback"), t) for chain in rule.fallback.chains.values() for t in chain]
    if "fallback" in build.settings:
        chains = build.settings["fallback"].chains.values()
        places += [(build.places["fallback"], t) for chain in chains for t in chain]
    for where, name in places:
        quant_type = find(name)
        if quant_type is None:
            continue
        for engine in engines:
            if engine not in quant_type.engines:
                text = f"{name} is not a type of {engine}; choose another, or the target {quant_type.engines[0]}"
                yield Problem(where, text)
