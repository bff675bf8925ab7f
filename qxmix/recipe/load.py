"""A recipe file and everything it extends, to one :class:`Recipe`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qxmix.errors import Problem, RecipeError
from qxmix.recipe.build import Builder, Scope
from qxmix.recipe.model import Recipe, Rule, Source
from qxmix.recipe.schema import check, near
from qxmix.recipe.tree import MAX_NBYTES, Node, parse, read_text
from qxmix.resources import data_dir

MAX_FILES = 32
"""Most files one recipe may extend, directly and through others."""

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(slots=True)
class _File:
    """One file of a recipe."""

    name: str
    path: Path
    data: bytes
    root: dict[str, Node]
    parents: list[_File]


@dataclass(slots=True)
class _State:
    """What is carried through all files of one recipe."""

    files: list[_File] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def shipped_names() -> list[str]:
    """Names of the recipes that come with qxmix; those that start with an underscore are fragments and left out."""
    root = data_dir("recipes")
    paths = sorted(root.rglob("*.yaml")) if root.is_dir() else []
    return [p.relative_to(root).with_suffix("").as_posix() for p in paths if not p.name.startswith("_")]


def load_recipe(path_or_name: str | Path) -> Recipe:
    """Load a recipe from a file, or a shipped one by its name such as ``pure/q4_0``.

    Raises:
        RecipeError: there is no such file, or the recipe is at fault; all problems at once.

    """
    state = _State()
    path, name = _locate(str(path_or_name), None)
    if path is None:
        raise RecipeError(Problem(str(path_or_name), _unknown(str(path_or_name))))
    file = _read(path, name, state, ())
    if file is None or state.problems:
        raise RecipeError(_sorted(state.problems))
    recipe = _assemble(file, state)
    if state.problems:
        raise RecipeError(_sorted(state.problems))
    return recipe


def _sorted(problems: list[Problem]) -> list[Problem]:
    def line(problem: Problem) -> tuple[str, int]:
        name, _, rest = problem.where.partition(":")
        number = rest.partition(":")[0]
        return name, int(number) if number.isdigit() else 0

    first = problems[0].where.partition(":")[0] if problems else ""
    return sorted(dict.fromkeys(problems), key=lambda p: (line(p)[0] != first, line(p)))


def _locate(text: str, base: Path | None) -> tuple[Path | None, str]:
    """The file a path or shipped name stands for, and what to call it; ``base`` is the folder of who extends it."""
    path = Path(text).expanduser()
    candidate = path if base is None or path.is_absolute() else base / path
    try:
        if candidate.is_file() or (candidate.exists() and not candidate.is_dir()):
            return candidate, text if base is None else str(candidate)
        root = data_dir("recipes")
        shipped = root / (text if text.endswith(_SUFFIXES) else f"{text}.yaml")
        if ".." not in path.parts and not path.is_absolute() and shipped.is_file():
            return shipped, shipped.relative_to(root).as_posix()
    except (OSError, ValueError):
        return None, text
    return None, text


def _unknown(text: str) -> str:
    if text.endswith(_SUFFIXES) or text.startswith(("/", ".", "~")):
        return "there is no such file; a shipped recipe is named without a suffix, like 'pure/q4_0'"
    known = shipped_names()
    same_end = [n for n in known if n.rpartition("/")[2] == text.lower()]
    hint = f"; did you mean '{same_end[0]}'?" if same_end else near(text, known)
    return f"neither a file nor a shipped recipe{hint or '; the shipped ones are in ' + str(data_dir('recipes'))}"


def _read(path: Path, name: str, state: _State, chain: tuple[Path, ...]) -> _File | None:
    """Read a file and, first, what it extends."""
    try:
        data = _bytes(path)
    except OSError as error:
        raise RecipeError(Problem(name, f"cannot be read: {error.strerror or error}")) from None
    node = parse(read_text(data, name), name)
    found = check(node, name)
    state.problems += found
    if found or not isinstance(node.value, dict):
        return None
    file = _File(name, path, data, node.value, [])
    state.files.append(file)
    if len(state.files) > MAX_FILES:
        raise RecipeError(Problem(name, f"the recipe extends more than {MAX_FILES} files"))
    extends = node.value.get("extends")
    items = [] if extends is None else extends.value if isinstance(extends.value, list) else [extends]
    for i, item in enumerate(items):
        where = f"{name}:{item.line}: extends" + (f"[{i}]" if len(items) > 1 else "")
        parent = _extended(str(item.value), where, path, state, chain)
        if parent is not None:
            file.parents.append(parent)
    return file


def _extended(text: str, where: str, path: Path, state: _State, chain: tuple[Path, ...]) -> _File | None:
    parent, parent_name = _locate(text, path.parent)
    if parent is None:
        state.problems.append(Problem(where, f"'{text}' is {_unknown(text)}"))
        return None
    chain = (*chain, path.resolve())
    if parent.resolve() in chain:
        links = " -> ".join(p.name for p in (*chain[chain.index(parent.resolve()) :], parent.resolve()))
        state.problems.append(Problem(where, f"the recipe extends itself: {links}"))
        return None
    return _read(parent, parent_name, state, chain)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_NBYTES + 1)


def _assemble(file: _File, state: _State) -> Recipe:
    """Settings from the outside in, rules in the same order."""
    settings: dict[str, Any] = {}
    rules: list[Rule] = []
    units = [0]
    _merge(file, state, settings, rules, units, 0, with_rules=True)
    if "default" not in settings:
        text = (
            "the key 'default' is missing; it says what a tensor gets that no rule names, for example 'default: q4_k'"
        )
        state.problems.append(Problem(f"{file.name}:1", text))
        settings["default"] = "F16"
    if "target" not in settings:
        text = "the key 'target' is missing; write the engine that is to load the model: llama.cpp, ik_llama.cpp or any"
        state.problems.append(Problem(f"{file.name}:1", text))
        settings["target"] = "any"
    if settings["target"] == "any" and "fallback" not in settings:
        text = "with 'target: any' the key 'fallback' must be written, as the two engines fall back differently"
        state.problems.append(Problem(f"{file.name}:1", text))
    root, files = file.root, state.files
    hashes = [hashlib.sha256(f.data).hexdigest() for f in files]
    name = root["name"].value if "name" in root else file.path.stem
    return Recipe(
        name=str(name),
        rules=tuple(rules),
        path=file.path,
        text=read_text(file.data, file.name),
        description=str(root["description"].value) if "description" in root else "",
        sources=tuple(Source(f.name, h) for f, h in zip(files, hashes, strict=True)),
        sha256=hashes[0] if len(files) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        **settings,
    )


def _merge(
    file: _File, state: _State, settings: dict[str, Any], rules: list[Rule], units: list[int], unit: int,
    *, with_rules: bool,
) -> Scope:  # fmt: skip
    """Add a file and then what it extends; a file without ``default`` is a fragment and part of who extends it."""
    pure = "pure" in file.root and file.root["pure"].value is True
    own = Builder(file.name, Scope(), state.problems)
    # Names of extended recipes are known here, too, and can be given another meaning.
    for parent in reversed(file.parents):
        inherited = _names(parent, state)
        own.scope.layers.update(inherited.layers)
        own.scope.conditions.update(inherited.conditions)
    own.names(file.root)
    for key, value in own.settings(file.root).items():
        settings.setdefault(key, value)
    if with_rules:
        node = file.root.get("rules")
        for i, item in enumerate(node.value if node is not None and isinstance(node.value, list) else []):
            rules.append(own.rule(item, f"rules[{i}]", unit))
    for parent in file.parents:
        next_unit = unit
        if "default" in parent.root:
            units[0] += 1
            next_unit = units[0]
        if pure:
            kept: dict[str, Any] = {}
            _merge(parent, state, kept, [], units, next_unit, with_rules=False)
            for key in ("default", "fallback", "target"):
                if key in kept:
                    settings.setdefault(key, kept[key])
        else:
            _merge(parent, state, settings, rules, units, next_unit, with_rules=with_rules)
    return own.scope


def _names(file: _File, state: _State) -> Scope:
    builder = Builder(file.name, Scope(), state.problems)
    for parent in reversed(file.parents):
        inherited = _names(parent, state)
        builder.scope.layers.update(inherited.layers)
        builder.scope.conditions.update(inherited.conditions)
    builder.names(file.root)
    return builder.scope
