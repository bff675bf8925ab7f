"""Where things are that are no code: recipes and schemas, and what is kept from run to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def data_dir(name: str) -> Path:
    """Folder ``name`` (``recipes`` or ``schemas``), from a wheel or from an editable install.

    An editable install does not map the top-level folders into the package, so the repository root is looked at, too.
    """
    package = Path(__file__).parent
    inside = package / name
    # qxmix/recipe is code, qxmix/recipes exists only in a wheel.
    return inside if inside.is_dir() else package.parent / name


def cache_homes() -> Iterator[Path]:
    """Folders for what can be made or read again, the best first; they need not exist or be writable.

    ``$XDG_CACHE_HOME/qxmix``, ``~/.cache/qxmix``, and one of the user's own among the temporary ones.  A home that is
    empty or relative is none: it would be another folder from each working folder.
    """
    # Where nothing tells a home, not even the list of users, "~" stays as it is.
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~/.cache")  # noqa: PTH111
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    for base in (os.environ.get("XDG_CACHE_HOME", ""), home):
        if os.path.isabs(base):  # noqa: PTH117
            yield Path(base) / "qxmix"
    from tempfile import gettempdir  # noqa: PLC0415 - 10 ms, for those who have no other

    yield Path(gettempdir()) / f"qxmix-{user}"


def cache_home() -> Path:
    """The first of :func:`cache_homes`."""
    return next(cache_homes())
