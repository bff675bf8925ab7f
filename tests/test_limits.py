"""How long functions and files may be, and that public names say what they are."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "qxmix"
FILES = sorted(PACKAGE.rglob("*.py"))
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

LONGEST, LONGEST_KERNEL, LONGEST_FILE = 40, 60, 300
"""Lines, a docstring not counted."""
KERNEL = {"kernel", "inlined", "spliced"}
"""What makes a function machine code; a factory of kernels is as long as what it makes."""
UNUSED_ARGUMENTS = 5
"""Most ``noqa: ARG001``: arguments that a contract asks for and one function has no use for."""


def functions(path: Path) -> Iterator[Function]:
    return (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, Function))


def n_lines(function: Function) -> int:
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    n_said = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - n_said


def is_kernel(function: Function) -> bool:
    inner = [n for n in ast.walk(function) if isinstance(n, Function)]
    return any(isinstance(d, ast.Name) and d.id in KERNEL for f in inner for d in f.decorator_list)


def test_functions_are_short() -> None:
    longer: dict[str, int] = {}
    for path in FILES:
        for function in functions(path):
            if n_lines(function) > (LONGEST_KERNEL if is_kernel(function) else LONGEST):
                longer[function.name] = n_lines(function)
    assert not longer


def test_files_are_short() -> None:
    assert not [str(p) for p in FILES if len(p.read_text().splitlines()) > LONGEST_FILE]


def undocumented(body: list[ast.stmt], within: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield f"{within}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, f"{within}.{node.name}")


def test_public_names_say_what_they_are() -> None:
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    missing = [str(p) for p, tree in trees.items() if tree.body and ast.get_docstring(tree) is None]
    missing += [name for p, tree in trees.items() for name in undocumented(tree.body, p.stem)]
    assert not missing


def test_arguments_are_used() -> None:
    assert sum(path.read_text().count("noqa: ARG001") for path in FILES) <= UNUSED_ARGUMENTS
