"""Where the recipes and schemas are: inside an installed package, or at the root of a checkout."""

from __future__ import annotations

from pathlib import Path


def data_dir(name: str) -> Path:
    """Folder ``name`` (``recipes`` or ``schemas``), from a wheel or from an editable install.

    An editable install does not map the top-level folders into the package, so the repository root is looked at, too.
    """
    package = Path(__file__).parent
    inside = package / name
    # qxmix/recipe is code, qxmix/recipes exists only in a wheel.
    return inside if inside.is_dir() else package.parent / name
