"""The templates of pages, and a page written to its file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.container.whole_file import write_whole
from qxmix.errors import RunError

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def template(name: str) -> Template:
    """The template of a kind of page.

    Raises:
        RunError: jinja2 is not installed.

    """
    try:
        from jinja2 import Environment, FunctionLoader  # noqa: PLC0415 - 0.1 s of import, for pages alone
    except ImportError:
        raise RunError("pages are made by jinja2, which is not installed; pip install jinja2") from None
    folder = files(__package__)
    loader = FunctionLoader(lambda file: folder.joinpath(file).read_text(encoding="utf-8"))
    # Names of tensors come from files of strangers: everything is escaped.
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        f"{name}.html.jinja"
    )


def write_page(html: str, path: Path) -> None:
    """Write a page.

    Raises:
        RunError: the file cannot be written.

    """
    with RunError.of_system(path, "the page cannot be written"):
        write_whole(path, html)
