"""Sizes in bytes as people write them."""

from __future__ import annotations

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

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Tokens."""
        try:
            return parse_tokens(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FileSize(Size):
    """The same, or ``hub`` for the most that a file on Hugging Face's hub may have."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        return HUB_NBYTES if str(value).lower() == "hub" else super().convert(value, param, ctx)
