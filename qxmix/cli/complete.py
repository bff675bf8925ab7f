"""What a shell completes: names of shipped recipes beside files, names of types and of the engines' mixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from qxmix.quants import ENGINES, QUANT_TYPES

if TYPE_CHECKING:
    import click


def complete_recipes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped recipes that begin so, and the shell's own completion of files."""
    from qxmix.recipe import shipped_names  # noqa: PLC0415 - the YAML parser, which `types` does without

    names = [name for name in shipped_names() if name.startswith(incomplete.lower())]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]


def complete_types(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Types that begin so, in any case."""
    return [CompletionItem(t.name) for t in QUANT_TYPES if t.codec and t.name.startswith(incomplete.upper())]


def complete_type_list(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of several types with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{item.value}") for item in complete_types(ctx, param, last)]


def complete_mixes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The mixes of both engines that begin so, as ``llama-quantize`` calls them."""
    from qxmix.recipe import shipped_names  # noqa: PLC0415 - the YAML parser, which `types` does without

    folders = (name.partition("/") for name in shipped_names())
    names = dict.fromkeys(mix.upper() for engine, _, mix in folders if engine in ENGINES)
    return [CompletionItem(name) for name in names if name.startswith(incomplete.upper())]
