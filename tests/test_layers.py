"""Imports go one way, and planning does not pay for numba."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "qxmix"

LAYERS = (
    {"system"},
    {"errors", "parent", "processors", "resources", "shells"},
    {"quants"},
    {"container"},
    {"recipe", "provenance"},
    {"measurement", "importance", "running"},
    {"planning"},
    {"plan"},
    {"lint", "publish", "explain", "diff", "dialects", "sphere"},
    {"execute", "engines", "check"},
    {"measure"},
    {"solve"},
    {"demo", "experiment"},
    {"report"},
    {"cli"},
)
"""From the ground up; a part may import what is below it, and itself."""


def level(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imports(path: Path) -> set[str]:
    """Parts of qxmix that a file imports, also inside functions and for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "qxmix" else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("qxmix.")}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__main__.py" and p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    up = {part for part in imports(path) - {own} if level(part) >= level(own)}
    assert not up


def modules_imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of qxmix, by their whole names, that a file imports in the same sense."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module]
    names = {(str(n.module), alias.name) for n in nodes for alias in n.names}
    return {f"{module}.{name}" if f"{module}.{name}" in modules else module for module, name in names} & modules.keys()


def test_modules_import_in_no_circle() -> None:
    modules = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES
    }
    TopologicalSorter({m: modules_imported(p, modules) - {m} for m, p in modules.items()}).prepare()


def test_numba_is_imported_by_the_kernels_alone() -> None:
    users = {
        str(p.relative_to(PACKAGE)) for p in FILES if re.search(r"^\s*(import|from) numba", p.read_text(), re.MULTILINE)
    }
    common = (
        f"common/{name}" for name in ("builtin", "half", "reinterpret", "simd", "simd_bytes", "simd_few", "vector")
    )
    compiling = (f"compiling/{p.stem}" for p in FILES if p.parent.name == "compiling" and p.stem != "__init__")
    assert users == {f"quants/{name}.py" for name in (*compiling, *common)}


@pytest.mark.parametrize(
    "command", ["plan", "validate", "recipes", "inspect", "types", "lint", "diff", "import", "export", "solve"]
)
def test_reading_commands_import_no_numba(command: str) -> None:
    code = f"""
import sys
from qxmix.cli.main import COMMANDS, main
if {command!r} in COMMANDS:
    main.get_command(None, {command!r})
sys.exit("numba" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
