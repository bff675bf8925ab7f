"""Sizes in bytes as people write them."""

from __future__ import annotations

from collections.abc import Callable

import click

from qxmix.recipe.sizes import HUB_NBYTES, parse_size, parse_tokens


class Size(click.ParamType[int]):
    """A size in bytes such as ``50G``, ``350GiB`` or ``24GB``."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        try:
            nbytes = parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if nbytes < 1:
            self.fail("must be at least one byte", param, ctx)
        return nbytes


class Tokens(click.ParamType[int]):
    """A length of context such as ``32768`` or ``32k``."""

    name = "tokens"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Tokens."""
        try:
            found = parse_tokens(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found < self._least:
            self.fail(f"must be at least {self._least} tokens", param, ctx)
        return found


def text_length(*names: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """``--text-ctx``, also under other names: how many tokens of a text are run at a time."""
    return click.option(
        "text_ctx", "--text-ctx", *names, default=512, show_default=True, type=Tokens(least=8), help="Tokens per chunk."
    )


class FileSize(Size):
    """The same, or ``hub`` for the most that a file on Hugging Face's hub may have."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        return HUB_NBYTES if str(value).lower() == "hub" else super().convert(value, param, ctx)
