"""``qxmix demo``: make a small model and show on it what qxmix does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from qxmix import shells
from qxmix.cli.inputs import FILE
from qxmix.demo.files import DemoFiles, make_demo_files
from qxmix.errors import RunError


@click.command("demo")
@click.argument("folder", metavar="[DIR]", default="qxmix-demo", type=FILE)
@click.option("--moe", is_flag=True, help="Make the model with experts.")
@click.option("--seed", type=click.IntRange(min=0), help="Other weights.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier demo left in DIR.")
@click.pass_context
def command(ctx: click.Context, *, folder: Path, moe: bool, seed: int | None, overwrite: bool) -> None:
    """Make a small model in DIR, plan what a recipe makes of it, and apply the plan.

    The model (4 MB, seeded, untrained) has a working tokenizer, so that llama.cpp and ik_llama.cpp load it and the
    quantized one. Every command that the demo stands for is printed before it runs.
    """
    files = DemoFiles.in_folder(folder, moe=moe)
    with _file_errors(folder):
        made = make_demo_files(files, moe=moe, seed=seed, overwrite=overwrite)
    for path, what in made:
        click.echo(f"{path}  {what}")
    inputs = [str(files.recipe), str(files.model), "--imatrix", str(files.imatrix)]
    _run(ctx, ["plan", *inputs])
    _run(ctx, ["apply", *inputs, "-o", str(files.output), *(["--overwrite"] if overwrite else [])])
    click.echo(_next_steps(files, inputs))


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{error.filename or folder}: {error.strerror}; give another folder: qxmix demo DIR") from None


def _run(ctx: click.Context, args: list[str]) -> None:
    from qxmix.cli.main import main  # noqa: PLC0415 - which imports this module

    click.echo(f"\n$ {shells.command_line(['qxmix', *args])}")
    code = main.main(args, prog_name="qxmix", standalone_mode=False)
    if code:
        ctx.exit(code)


def _next_steps(files: DemoFiles, inputs: list[str]) -> str:
    steps = [
        ("every tensor and the reason of its type", ["plan", "--all", *inputs]),
        (f"change {files.recipe}, then see what it would do", ["plan", *inputs]),
        ("the size of the model by every recipe that comes with qxmix", ["recipes", "--model", str(files.model)]),
        ("the types there are", ["types"]),
        (
            'how far the result is from the model, in the real engine (after pip install ".[engines]")',
            ["eval", str(files.output), "--base", str(files.model), "--text", str(files.text)],
        ),
    ]
    lines = [f"  {shells.command_line(['qxmix', *args])}\n      {what}" for what, args in steps]
    return "\n".join(["", "Next:", *lines])
