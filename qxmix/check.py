"""Everything that can be checked about the recipes of a repository, from headers kept in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from qxmix.container.identity import header_sha256
from qxmix.container.model import ModelHeader
from qxmix.container.recognize import HEAD_NBYTES, looks_like_recipe
from qxmix.errors import PlanError, Problem, QxmixError, RecipeError
from qxmix.lint import examined, suspicions
from qxmix.plan import Plan, make_plan
from qxmix.planning.lock import check_lock
from qxmix.planning.outline import needs_plan, outline
from qxmix.planning.view import ModelView
from qxmix.recipe import load_recipe
from qxmix.recipe.model import Recipe

_SUFFIXES = {".yaml", ".yml"}
_SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Checked:
    """One recipe seen against one model, or by itself."""

    recipe: Path
    model: str
    """Name of the model's file; empty for the recipe by itself."""
    problems: tuple[Problem, ...]
    """What is wrong: errors, and warnings of plan and lint."""
    nbytes: int | None = None
    """Bytes of the output, if there is a plan."""
    locked: bool = False
    """Whether a lock file was compared."""

    @property
    def exit_code(self) -> int:
        """2 for an invalid recipe, 3 for a plan that breaks a policy or a lock, else 0."""
        if all(p.severity == "note" for p in self.problems):
            return 0
        return PlanError.exit_code if self.model else RecipeError.exit_code


def find_recipes(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The recipes among files and below folders; fragments, whose names begin with ``_``, are only extended.

    A YAML file that is no recipe is passed over, so that a commit hook can hand over whatever has changed.

    Raises:
        QxmixError: a path that is not there.

    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise QxmixError.at(path, "no such file or folder")
        files = _below(path) if path.is_dir() else [path]
        found.update(dict.fromkeys(f for f in files if _is_recipe(f)))
    return tuple(found)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in _SKIPPED and not path.is_symlink():
            yield from _below(path)
        elif path.suffix in _SUFFIXES:
            yield path


def _is_recipe(path: Path) -> bool:
    """Whether one of its first lines is ``qxmix:``; comments may stand above."""
    if path.name.startswith("_") or path.suffix not in _SUFFIXES:
        return False
    with suppress(OSError), path.open("rb") as file:
        head = file.read(16 * HEAD_NBYTES)
        lines = [line for line in head.splitlines() if line.strip() and not line.lstrip().startswith((b"#", b"---"))]
        return bool(lines) and (
            any(line.startswith(b"qxmix:") for line in lines) or looks_like_recipe(path.with_suffix(""), lines[0])
        )
    return False


def check(recipes: Sequence[Path], models: Sequence[ModelHeader]) -> Iterator[Checked]:
    """Check recipes one by one: valid, and on each model what plan and lint report, limits and locks.

    Args:
        recipes: Files.
        models: Headers; without any only the recipes themselves are checked.

    """
    views = [(ModelView(model), header_sha256(model)) for model in models]
    loaded = [(path, _loaded(path)) for path in recipes]
    for path, recipe in loaded:
        if not isinstance(recipe, Recipe):
            yield Checked(path, "", recipe)
            continue
        notes = _same_name(path, recipe, loaded)
        if not models:
            yield Checked(path, "", notes)
        locks = dict(_locks_of(path))
        for view, digest in views:
            found = _on_model(path, recipe, view, locks.get(digest))
            yield replace(found, problems=(*notes, *found.problems))
            notes = ()


def _loaded(path: Path) -> Recipe | tuple[Problem, ...]:
    """The recipe, or what is wrong with it."""
    try:
        return load_recipe(path, validated=True)
    except RecipeError as error:
        return error.problems


def _same_name(
    path: Path, recipe: Recipe, loaded: Sequence[tuple[Path, Recipe | tuple[Problem, ...]]]
) -> tuple[Problem, ...]:
    """A note where a recipe before this one, in its folder, has its name.

    It is no warning: the two may be for two models.
    """
    for other, its in loaded:
        if other == path:
            break
        if isinstance(its, Recipe) and other.parent == path.parent and its.name == recipe.name:
            text = (
                f"has the name of {other.name}, '{recipe.name}'; of one model both would be written to one file: give "
                "it another 'name:'"
            )
            return (Problem(str(path), text, "note"),)
    return ()


def _on_model(path: Path, recipe: Recipe, view: ModelView, lock: Path | None) -> Checked:
    name = view.header.path.name
    if lock is None and not needs_plan(recipe):
        # Most have nothing wrong, which takes a tenth of a plan to see.
        found = outline(recipe, view)
        suspected = (p.severity != "note" for p in suspicions(recipe, view, found.alike))
        if not found.refused and not found.warned and not any(suspected):
            return Checked(path, name, (), found.nbytes)
    plan = make_plan(recipe, view.header, view=view)
    problems = [p for p in examined(plan, view=view).problems if p.severity != "note"]
    # A repository has no importance matrices; what needs one is told when it is applied.
    problems = [p for p in problems if p.id not in {"imatrix-missing", "imatrix-none"}]
    if lock is not None:
        problems += _lock_problems(plan, lock)
    return Checked(path, name, tuple(problems), plan.file_nbytes, lock is not None)


def _lock_problems(plan: Plan, lock: Path) -> tuple[Problem, ...]:
    try:
        check_lock(plan, lock, types_only=True)
    except PlanError as error:
        return error.problems
    return ()


def _locks_of(recipe: Path) -> Iterator[tuple[str, Path]]:
    """Lock files of a recipe, by the hash of the header they are for: ``NAME*.lock*`` or ``NAME*.json`` beside it.

    ``mix-2.lock.json`` is not of ``mix.yaml`` where there is a ``mix-2.yaml``.
    """
    beside = sorted(recipe.parent.glob(f"{escape(recipe.stem)}*"))
    longer = tuple(p.stem for p in beside if p.suffix in _SUFFIXES and len(p.stem) > len(recipe.stem))
    for path in beside:
        if (path.suffix == ".json" or ".lock" in path.suffixes) and not path.name.startswith(longer):
            with suppress(OSError, ValueError, RecursionError):
                content = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(content, dict) and "qxmix_lock" in content:
                    yield str(content.get("header_sha256")), path
