"""Files as a revision of the git repository has them: ``REV:path``, as ``git show`` takes it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from qxmix.errors import Place, Problem, RecipeError

_RECIPES = (".yaml", ".yml")
_LARGEST = 1 << 20
"""Most bytes of another recipe that is taken along, in case that it is extended."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A file of a commit."""

    commit: str
    """As the user named it."""
    path: str
    """From the top of the repository, or with ``./`` from the folder one is in."""

    def __str__(self) -> str:
        return f"{self.commit}:{self.path}"


@dataclass(frozen=True, slots=True)
class Extracted:
    """Where a file of a revision stands for the moment."""

    file: Path
    folder: Path
    """The top of the repository."""
    commit: str

    def told(self, problem: Problem) -> Problem:
        """The problem with what git calls its places."""

        def renamed(text: str) -> str:
            return text.replace(f"{self.folder}{os.sep}", f"{self.commit}:")

        where = problem.where
        place = replace(where, file=renamed(where.file)) if isinstance(where, Place) else renamed(where)
        return replace(problem, where=place, text=renamed(problem.text))


def revision_of(text: str) -> Revision | None:
    """What ``REV:path`` names; None for an address, for a file with a colon in its name, and for anything else."""
    commit, colon, path = text.partition(":")
    # Behind a drive of Windows, as behind the scheme of an address, a path starts at the top.
    if not colon or not commit or not path or path.startswith(("/", "\\")) or "\0" in text:
        return None
    try:
        return None if Path(text).exists() else Revision(commit, path.replace(os.sep, "/"))
    except OSError:
        return None


@contextmanager
def extracted(revision: Revision) -> Iterator[Extracted]:
    """Put the file into a temporary folder, of a recipe with all others, any of which it may extend.

    Raises:
        RecipeError: git or a repository is missing, or it has no such revision or file.

    """
    _git(revision, "rev-parse", "--git-dir", fault="is in no git repository; go into the one that has it")
    known = _git(
        revision, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision.commit}^{{commit}}",
        fault=f"the repository has no revision {revision.commit!r}; 'git log --oneline' and 'git branch -a' list them",
    ).decode().strip()  # fmt: skip
    path = revision.path
    if path.startswith(("./", "../")):
        prefix = _git(revision, "rev-parse", "--show-prefix").decode().removesuffix("\n")
        path = posixpath.normpath(prefix + path)
    blobs = _blobs(revision, known)
    if path not in blobs:
        raise RecipeError.at(revision, f"there is no {path} in {revision.commit}{_hint(path, blobs)}")
    wanted = {path: blobs[path][0]}
    if path.endswith(_RECIPES):
        wanted |= {p: name for p, (name, n) in blobs.items() if p.endswith(_RECIPES) and n <= _LARGEST}
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - a plan has no use for it

    with TemporaryDirectory(prefix="qxmix-revision-") as temporary:
        folder = Path(temporary).resolve()
        for name, content in zip(wanted, _contents(revision, wanted.values()), strict=True):
            target = folder / name
            if folder in target.resolve().parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        yield Extracted(folder / path, folder, revision.commit)


def _blobs(revision: Revision, commit: str) -> dict[str, tuple[str, int]]:
    """Path to name and size of all files of a commit."""
    found = {}
    for line in _git(revision, "ls-tree", "-r", "-l", "-z", "--full-tree", commit).split(b"\0"):
        facts, _, path = line.decode(errors="surrogateescape").partition("\t")
        mode, kind, name, nbytes = facts.split() if path else ("", "", "", "")
        if kind == "blob" and mode.startswith("100"):
            found[path] = name, int(nbytes)
    return found


def _contents(revision: Revision, blobs: Iterable[str]) -> Iterator[bytes]:
    """What is in them, in order."""
    answer = _git(revision, "cat-file", "--batch", given="\n".join(blobs).encode())
    start = 0
    while start < len(answer):
        end = answer.index(b"\n", start)  # of a line NAME KIND SIZE
        n = int(answer[start:end].split()[2])
        yield answer[end + 1 : end + 1 + n]
        start = end + n + 2


def _hint(path: str, blobs: dict[str, tuple[str, int]]) -> str:
    same_end = [p for p in blobs if p.endswith(f"/{path}")]
    close = same_end or get_close_matches(path, blobs, 1)
    return f"; did you mean {close[0]!r}?" if close else "; paths start at the top of the repository, or with ./ here"


def _git(revision: Revision, *arguments: str, fault: str = "", given: bytes = b"") -> bytes:
    import subprocess  # noqa: PLC0415 - for those who name a commit

    try:
        done = subprocess.run(["git", *arguments], input=given, capture_output=True, check=False)
    except OSError as error:
        text = f"names a file of a git revision, and git cannot be run: {error.strerror or error}"
        raise RecipeError.at(revision, text) from None
    if done.returncode:
        raise RecipeError.at(revision, fault or f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
