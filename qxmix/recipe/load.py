"""Finding and reading the files of a recipe: the file itself and everything it extends."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from qxmix.errors import Place, Problem, RecipeError
from qxmix.recipe import bundle
from qxmix.recipe.assemble import RecipeFile, assemble
from qxmix.recipe.build import items
from qxmix.recipe.faults import Fault, check
from qxmix.recipe.model import Recipe
from qxmix.recipe.once import stream_of
from qxmix.recipe.remedies import near
from qxmix.recipe.schema import fits
from qxmix.recipe.tree import MAX_NBYTES, Node, parse, read_text
from qxmix.resources import data_dir

_MAX_FILES = 32
"""Most files one recipe may extend, directly and through others."""

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(slots=True)
class _State:
    """What is carried through all files of one recipe."""

    files: dict[Path, RecipeFile] = field(default_factory=dict)
    """By resolved path, in reading order; a file that two others extend is read once."""
    problems: list[Problem] = field(default_factory=list)
    validated: bool = False
    """Whether jsonschema sees every file, not only those that do not fit."""


def shipped_names() -> list[str]:
    """Names of the recipes that come with qxmix, without the fragments that only other recipes use."""
    root = data_dir("recipes")
    paths = sorted(root.rglob("*.yaml")) if root.is_dir() else []
    return [p.relative_to(root).with_suffix("").as_posix() for p in paths if not p.name.startswith("_")]


def shipped_path(name: str) -> Path:
    """The file of a shipped recipe, or of a fragment that shipped ones extend.

    Raises:
        RecipeError: there is none of this name.

    """
    path = _shipped(name)
    if path is None:
        raise RecipeError.at(name, f"there is no shipped recipe of this name{_near_shipped(name)}")
    return path


def load_recipe(path_or_name: str | Path, *, validated: bool = False) -> Recipe:
    """Load a recipe from a file, or a shipped one by its name such as ``pure/q4_0``; ``-`` is standard input.

    Args:
        path_or_name: The file or the name.
        validated: Let ``jsonschema`` see a recipe that can be built, too; one with a fault it always sees.

    Raises:
        RecipeError: there is no such file, or the recipe is at fault; all problems at once.

    """
    state = _State(validated=validated)
    text = str(path_or_name)
    if (data := _stream(text)) is not None:
        # What it extends is named from the folder one is in.
        file = _take(data, Path.cwd() / "stdin.yaml", "standard input" if text == "-" else text, state, ())
    else:
        path, name = _locate(text, None)
        if path is None:
            raise RecipeError.at(text, _unknown(text, Path()))
        file = _read(path, name, state, ())
    return _assembled(file, state)


def load_recipe_text(text: str, name: str) -> Recipe:
    """Load a recipe from the text that an output of ``apply`` carries; ``name`` is what messages call it.

    Raises:
        RecipeError: the recipe is at fault; all problems at once.

    """
    state = _State()
    documents = bundle.split(text) or [(text, [])]
    file = _read_bundle(documents, Path(name), name, state)
    return _assembled(file, state)


def _assembled(file: RecipeFile, state: _State) -> Recipe:
    files = list(state.files.values())
    recipe = assemble(file, files, state.problems)
    if state.problems:
        unseen = [] if state.validated else [f for f in files if f.sound]
        state.problems += [Problem(*fault) for f in unseen for fault in check(parse(f.text, f.name), f.name)]
        raise RecipeError(_in_order(state))
    return recipe


def _in_order(state: _State) -> list[Problem]:
    """Problems file by file, the recipe itself first, each by line; what two ways of reading found is said once."""
    names = [f.name for f in state.files.values()]

    def key(problem: Problem) -> tuple[int, int]:
        where = problem.where
        if isinstance(where, Place) and where.file in names:
            return names.index(where.file), where.line
        return len(names), 0

    return sorted(dict.fromkeys(state.problems), key=key)


def _locate(text: str, base: Path | None) -> tuple[Path | None, str]:
    """The file that a path or shipped name stands for, and what to call it.

    Args:
        text: As the user wrote it.
        base: The folder of the file that extends it, or None.

    """
    try:
        path = Path(text).expanduser()
        candidate = path if base is None else base / path
        if candidate.exists() and not candidate.is_dir():
            return candidate, text if base is None else str(candidate)
    except (OSError, ValueError, RuntimeError):
        # A name that no file can have: too long, with a NUL, or in the home of a user there is not.
        return None, text
    shipped = _shipped(text)
    return (None, text) if shipped is None else (shipped, shipped.relative_to(data_dir("recipes")).as_posix())


def _shipped(text: str) -> Path | None:
    path = Path(text)
    if ".." in path.parts or path.is_absolute():
        return None
    # All have lower-case names, and the engines' own programs write Q4_K_M.
    name = text.lower()
    shipped = data_dir("recipes") / (name if name.endswith(_SUFFIXES) else f"{name}.yaml")
    try:
        return shipped if shipped.is_file() else None
    except (OSError, ValueError):
        return None


def _unknown(text: str, base: Path) -> str:
    """What to say of a name that stands for no file; a relative one starts at ``base``."""
    try:
        inside = sorted((base / Path(text).expanduser()).iterdir()) if text else None
    except (OSError, ValueError, RuntimeError):
        inside = None
    if inside is not None:
        first = next((p for p in inside if p.suffix in _SUFFIXES), None)
        return "is a folder; give a recipe in it" + ("" if first is None else f", like {first}")
    if any(n.startswith(f"{text.rstrip('/')}/") for n in shipped_names()):
        return f"is a folder of shipped recipes; 'qxmix recipes {text.rstrip('/')}' lists them"
    if text.endswith(".gguf"):
        return "there is no such file"
    if text.endswith(_SUFFIXES) or text.startswith(("/", ".", "~")):
        return f"there is no such file{_near_file(text, base)}"
    return f"neither a file nor a shipped recipe{_near_shipped(text)}"


def _near_file(text: str, base: Path) -> str:
    """A recipe in the same folder with a similar name."""
    try:
        folder = Path(text).parent
        inside = (base / folder.expanduser()).iterdir()
        stems = {p.stem: p.name for p in inside if p.suffix in _SUFFIXES}
        close = get_close_matches(Path(text).stem, stems, 1)
    except (OSError, ValueError, RuntimeError):
        close = []
    if close:
        return f"; did you mean '{folder / stems[close[0]]}'?"
    return "; a shipped recipe is named without a suffix, like 'pure/q4_0'"


def _near_shipped(text: str) -> str:
    known = shipped_names()
    same_end = [n for n in known if n.rpartition("/")[2] == text.lower()]
    named = "' or '".join(same_end)
    hint = f"; did you mean '{named}'?" if same_end else near(text, known)
    return hint or "; 'qxmix recipes' lists them"


def _read(path: Path, name: str, state: _State, chain: tuple[Path, ...]) -> RecipeFile:
    """Read a file and what it extends; parts that do not have the right structure are reported and left out."""
    if (known := state.files.get(path.resolve())) is not None:
        return known
    with RecipeError.of_system(name, "cannot be read"), path.open("rb") as opened:
        data = opened.read(MAX_NBYTES + 1)
    return _take(data, path, name, state, chain)


def _stream(text: str) -> bytes | None:
    with RecipeError.of_system(text, "cannot be read"):
        return stream_of(text)


def _take(data: bytes, path: Path, name: str, state: _State, chain: tuple[Path, ...]) -> RecipeFile:
    """The file that these bytes are, and what it extends."""
    # git on Windows ends lines by CR LF; a recipe is the same then, and so is what an output says of it.
    text, data = read_text(data, name).replace("\r\n", "\n"), data.replace(b"\r\n", b"\n")
    if (documents := bundle.split(text)) is not None:
        return _read_bundle(documents, path, name, state)
    file = _parse(path, name, text, data, state)
    if len(state.files) > _MAX_FILES:
        raise RecipeError.at(name, f"the recipe extends more than {_MAX_FILES} files")
    extended = items(file.root.get("extends"))
    for i, item in enumerate(extended):
        where = Place(name, item.line, "extends" + (f"[{i}]" if len(extended) > 1 else ""))
        parent = _extended(str(item.value), where, path, state, (*chain, path.resolve()))
        if parent is not None:
            file.parents.append(parent)
        else:
            file.sound = False
    return file


def _parse(path: Path, name: str, text: str, data: bytes, state: _State) -> RecipeFile:
    node, faults = _structure(text, name, validated=state.validated)
    state.problems += [Problem(where, text) for where, text in faults]
    root = _without([where.path for where, _ in faults], node)
    file = RecipeFile(name, path, text, data, root, [], sound=not faults)
    state.files[path.resolve()] = file
    return file


@lru_cache(maxsize=64)
def _structure(text: str, name: str, *, validated: bool) -> tuple[Node, tuple[Fault, ...]]:
    """The tree of a file and its faults; most recipes of a list extend the same few files."""
    node = parse(text, name)
    return node, tuple(check(node, name)) if validated or not fits(node) else ()


def _read_bundle(documents: list[tuple[str, list[int]]], path: Path, name: str, state: _State) -> RecipeFile:
    """All files of a recipe from one text, as an output of ``apply`` carries it."""
    if len(documents) > _MAX_FILES:
        raise RecipeError.at(name, f"the recipe extends more than {_MAX_FILES} files")
    files = [
        _parse(path / str(i) if i else path, f"{name} (file {i + 1})" if i else name, text, text.encode(), state)
        for i, (text, _) in enumerate(documents)
    ]
    for file, (_, indices) in zip(files, documents, strict=True):
        if len(items(file.root.get("extends"))) != len(indices):
            raise RecipeError.at(file.name, "the files it extends are not all in it; extract the recipe again")
        file.parents += [files[k] for k in indices]
    try:
        TopologicalSorter({i: indices for i, (_, indices) in enumerate(documents)}).prepare()
    except CycleError:
        raise RecipeError.at(name, "the recipe extends itself") from None
    return files[0]


def _without(paths: list[str], node: Node) -> dict[str, Node]:
    """The file's keys without those at fault, and of its rules those without fault."""
    if not isinstance(node.value, dict):
        return {}
    bad = {path.partition(".")[0].partition("[")[0] for path in paths}
    root = {key: value for key, value in node.value.items() if key not in bad or key == "rules"}
    if "rules" in root and isinstance(rules := root["rules"].value, list):
        # A rule at fault keeps its place, as the places of the others are in their messages.
        faulty = {path.partition("]")[0] + "]" for path in paths if path.startswith("rules[")}
        kept = [Node(None, rule.line) if f"rules[{i}]" in faulty else rule for i, rule in enumerate(rules)]
        root["rules"] = Node(kept, root["rules"].line)
    elif "rules" in bad:
        root.pop("rules", None)
    return root


def _extended(text: str, where: Place, path: Path, state: _State, chain: tuple[Path, ...]) -> RecipeFile | None:
    parent, parent_name = _locate(text, path.parent)
    if parent is None:
        state.problems.append(Problem(where, f"'{text}': {_unknown(text, path.parent)}"))
        return None
    resolved = parent.resolve()
    if resolved in chain:
        links = " -> ".join(p.name for p in (*chain[chain.index(resolved) :], resolved))
        state.problems.append(Problem(where, f"the recipe extends itself: {links}"))
        return None
    return _read(parent, parent_name, state, chain)
