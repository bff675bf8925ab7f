"""What a shell completes: names of shipped recipes beside files, names of types and of the engines' mixes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from qxmix.quants import ENGINES, QUANT_TYPES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _items(values: Iterable[str], kind: str = "plain") -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - for a shell that asks

    return [CompletionItem(value, type=kind) for value in values]


def complete_recipes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped recipes that begin so, and the shell's own completion of files."""
    from qxmix.recipe import shipped_names  # noqa: PLC0415 - the YAML parser, which `types` does without

    names = [name for name in shipped_names() if name.startswith(incomplete.lower())]
    return _items(names) + _items([incomplete], "file")


def complete_types(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Types that begin so, in any case."""
    return _items(t.name for t in QUANT_TYPES if t.codec and t.name.startswith(incomplete.upper()))


def complete_type_list(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of several types with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return _items(f"{before}{comma}{item.value}" for item in complete_types(ctx, param, last))


def complete_mixes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The mixes of both engines that begin so, as ``llama-quantize`` calls them."""
    from qxmix.recipe import shipped_names  # noqa: PLC0415 - the YAML parser, which `types` does without

    folders = (name.partition("/") for name in shipped_names())
    names = dict.fromkeys(mix.upper() for engine, _, mix in folders if engine in ENGINES)
    return _items(name for name in names if name.startswith(incomplete.upper()))
