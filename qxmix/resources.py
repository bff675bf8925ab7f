"""Where things are that are no code: recipes and schemas, and what is kept from run to run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def data_dir(name: str) -> Path:
    """Folder ``name`` (``recipes`` or ``schemas``), from a wheel or from an editable install.

    An editable install does not map the top-level folders into the package, so the repository root is looked at, too.
    """
    package = Path(__file__).parent
    inside = package / name
    # qxmix/recipe is code, qxmix/recipes exists only in a wheel.
    return inside if inside.is_dir() else package.parent / name


def cache_home() -> Path:
    """Folder for what can be made or read again; it need not exist.

    ``$XDG_CACHE_HOME/qxmix`` or ``~/.cache/qxmix``; without a home folder, one of the user's own among the temporary
    ones.
    """
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):  # noqa: PTH111 - no error without a home
        if os.path.isabs(base):  # noqa: PTH117 - a string that may be empty
            return Path(base) / "qxmix"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"qxmix-{user}"
