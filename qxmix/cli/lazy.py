"""Groups of commands of which only the one that runs is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for: ``plan`` must not pay for ``apply``'s imports."""

    def __init__(self, *args: Any, package: str, table: Mapping[str, tuple[str, str]], **attributes: Any) -> None:  # noqa: ANN401 - click's
        """Make a group.

        Args:
            args: click's.
            package: Where the modules are.
            table: Command to the module of ``package`` whose ``command`` it is, and its line in ``--help``, in that
                order.
            attributes: click's.

        """
        super().__init__(*args, **attributes)
        self._package = package
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command, or None where there is no such."""
        module, _ = self._table.get(cmd_name, (None, ""))
        if module is None:
            return None
        command: click.Command = import_module(f"{self._package}.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help's list; click would import every command for the first words of its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])
