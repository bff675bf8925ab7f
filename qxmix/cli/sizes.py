"""Sizes in bytes as people write them."""

from __future__ import annotations

import click

from qxmix.recipe.sizes import parse_size


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
