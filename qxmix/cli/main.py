"""The ``qxmix`` command: finds subcommands by name and imports only the one that runs."""

from __future__ import annotations

from importlib import import_module

import click

from qxmix.errors import QxmixError

COMMANDS = {
    "plan": "plan",
    "apply": "apply",
    "verify": "verify",
    "recipe-of": "recipe_of",
    "validate": "validate",
    "lint": "lint",
    "diff": "diff",
    "import": "import_",
    "export": "export",
    "inspect": "inspect",
    "types": "types",
    "warmup": "warmup",
    "demo": "demo",
    "eval": "eval",
}
"""Command to the module of ``qxmix.cli`` whose ``command`` it is, in the order ``--help`` lists them."""


class _Commands(click.Group):
    """A group that imports a command when it is asked for: ``plan`` must not pay for ``apply``'s imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"qxmix.cli.{module}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except QxmixError as error:
            for problem in error.problems:
                click.echo(f"Error: {problem}", err=True)
            ctx.exit(error.exit_code)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="qxmix")
def main() -> None:
    """Quantize GGUF models by a recipe: plan it to the byte, then apply it."""
