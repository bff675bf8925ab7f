"""The ``qxmix`` command: finds subcommands by name and imports only the one that runs."""

from __future__ import annotations

import atexit
import errno
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

import click

import qxmix
from qxmix import system
from qxmix.cli import streams
from qxmix.cli.interrupt import ARGUMENTS, Interrupted, hear_interrupts
from qxmix.cli.lazy import LazyGroup
from qxmix.errors import Problem, QxmixError
from qxmix.report.problems import problem_json, problem_line

COMMANDS = {
    "solve": ("solve", "Find the types that lose least within a size."),
    "plan": ("plan", "Show types, reasons and exact size before anything is read."),
    "apply": ("apply", "Write the model that the plan describes."),
    "verify": ("verify", "Compare an output with its digests, or make it again."),
    "deviation": ("deviation", "Measure how far a file's weights are from another's."),
    "recipe-of": ("recipe_of", "Print the recipe that an output was made by."),
    "recipes": ("recipes", "List the recipes that come with qxmix, or print one."),
    "validate": ("validate", "Check recipes without a model."),
    "lint": ("lint", "Say what in a recipe looks wrong for a model."),
    "check": ("check", "Check all recipes of a repository on kept headers."),
    "diff": ("diff", "Compare two recipes, plans, lock files or models."),
    "compare": ("compare", "Show recipes, plans and models side by side."),
    "import": ("import_", "Turn a llama-quantize command or a GGUF into a recipe."),
    "export": ("export", "Turn a recipe into a llama-quantize command."),
    "header": ("header", "Write a model's header to a small file."),
    "inspect": ("inspect", "Show what is in a model, an importance matrix or moments."),
    "imatrix": ("imatrix", "Make, merge, compare and describe importance matrices."),
    "types": ("types", "List all tensor types and what qxmix does with each."),
    "warmup": ("warmup", "Compile kernels ahead of their first use."),
    "demo": ("demo", "Make a small model and quantize it, to try all this."),
    "compare-search": ("compare_search", "Make and evaluate files by each scale search."),
    "sphere": ("sphere", "Draw the scale searches in every direction."),
    "measure": ("measure", "Measure what types do to a model's tensors."),
    "eval": ("eval", "Perplexity, and divergence from a base, in the real engines."),
}
"""Command to the module of ``qxmix.cli`` whose ``command`` it is, and its line in ``--help``, in that order."""


SIZES = ("--target-size", "--target-bpw", "--max-size", "--size", "--bpw", "--fit")
"""Options that say how large the output is to be, which recipes say."""
_FOR_A_SIZE = (
    "'qxmix solve MODEL --size 20GiB' makes a recipe that fits a size, and in a recipe 'limits: {max_size: 20GiB}' "
    "refuses a larger output"
)

_AS_JSON = "qxmix.as_json"

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

# The interpreter looks for cycles in everything before it ends, a tenth of a second after an apply, to free what the
# system frees anyway.
atexit.register(gc.freeze)
# And it looks at each 700 new ones before, a twentieth of an apply's start, where commands make hardly a cycle.
gc.set_threshold(300_000)


class _Commands(LazyGroup):
    """All commands of qxmix, and what becomes of errors."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON], ctx.meta[ARGUMENTS] = "--json" in args, list(args)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches  # noqa: PLC0415 - for those who mistype

            near = "apply" if args[0] == "quantize" else next(iter(get_close_matches(args[0], COMMANDS, 1)), None)
            ctx.fail(f"No such command '{args[0]}'" + (f"; did you mean '{near}'?" if near else "."))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        streams.open_missing()
        streams.take_any_text()
        try:
            hear_interrupts()
            return self._invoke(ctx)
        except QxmixError as error:
            _print_json(ctx, error.problems)
            _tell(error)
            ctx.exit(error.exit_code)
        except click.ClickException as error:
            _print_json(ctx, [Problem("the command line", error.format_message())])
            raise
        except Interrupted as stopped:
            _print_json(ctx, [Problem("qxmix", " ".join(stopped.parting.split()))])
            streams.notice(stopped.parting)
            ctx.exit(stopped.exit_code)
        except KeyboardInterrupt:
            _print_json(ctx, [Problem("qxmix", "interrupted")])
            streams.notice("Interrupted.")
            ctx.exit(INTERRUPTED)
        except MemoryError:
            text = "there is not enough memory; close other programs, or give fewer workers (-j)"
            _print_json(ctx, [Problem("qxmix", text)])
            streams.notice(f"Error: {text}")
            ctx.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head` has read enough: click ends without a word
                raise
            if error.errno in system.PIPE_ENDED and streams.came_from_output(error):  # as Windows says it
                streams.drop_output()
                ctx.exit(1)
            streams.notice(f"Error: {_where(error)}{error.strerror or error}")
            if streams.came_from_output(error):
                streams.drop_output()
            else:
                _print_json(ctx, [Problem(str(error.filename or "qxmix"), f"{error.strerror or error}")])
            ctx.exit(1)

    def _invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            # click would name the option that is spelled alike and means something else.
            if error.option_name in SIZES:
                raise click.UsageError(f"{error.message} {_FOR_A_SIZE}", error.ctx) from None
            raise


def _print_json(ctx: click.Context, problems: Sequence[Problem]) -> None:
    """For programs that asked for JSON what went wrong on standard output; ``schemas/error.schema.json``."""
    if ctx.meta[_AS_JSON]:
        click.echo(json.dumps({"error": [problem_json(p) for p in problems]}, indent=1))


def _tell(error: QxmixError) -> None:
    """All problems of an error on standard error."""
    for problem in error.problems:
        streams.notice(problem_line(replace(problem, severity="error", id=""), terminal=sys.stderr.isatty()))
    if len(error.problems) > 1:
        streams.notice(f"{len(error.problems):,} errors")


def _where(error: OSError) -> str:
    """What the system's reason is about."""
    if error.filename is not None:
        return f"{error.filename}: "
    if streams.came_from_output(error):
        return "standard output cannot be written: "
    # Libraries raise errors without a number and with a text of their own.
    return "the system refused a call: " if error.errno else ""


# The width is the terminal's, whatever it is; click alone would stop at 80.
@click.command(
    cls=_Commands,
    package="qxmix.cli",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 10_000},
)
@click.version_option(qxmix.__version__, package_name="qxmix")
def main() -> None:
    """Quantize GGUF models by a recipe: plan it to the byte, then apply it.

    A file that exists is replaced only with --overwrite; what --lock, --html, --plot, --card and --wheel ask for is
    made by each run anew, and may also replace one that qxmix wrote.
    """
