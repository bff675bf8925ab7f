"""What a shell completes: names of shipped recipes beside files, and names of types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from qxmix.quants import QUANT_TYPES

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
