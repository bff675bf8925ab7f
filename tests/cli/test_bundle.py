"""Options that reach a command as one value."""

from __future__ import annotations

from typing import NamedTuple

import click
from click.testing import CliRunner

from qxmix.cli.bundle import bundled


class Size(NamedTuple):
    n: int
    unit: str | None


def test_options_are_listed_in_order_and_passed_on_as_one() -> None:
    got: list[tuple[str, Size, bool]] = []

    @click.command()
    @click.argument("name")
    @bundled("size", Size, click.option("--n", default=3), click.option("--unit"))
    @click.option("--last", is_flag=True)
    @click.pass_context
    def command(_ctx: click.Context, name: str, size: Size, *, last: bool) -> None:
        """Do it."""
        got.append((name, size, last))

    assert [p.name for p in command.params] == ["name", "n", "unit", "last"]
    assert command.help == "Do it."
    for words in (["a"], ["b", "--unit", "GiB", "--n", "5", "--last"]):
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
    assert got == [("a", Size(3, None), False), ("b", Size(5, "GiB"), True)]


def test_what_makes_nothing_of_the_values_is_a_wrong_usage() -> None:
    def refuse(*, n: int) -> int:
        raise click.UsageError(f"no {n}")

    @click.command()
    @bundled("size", refuse, click.option("--n", default=3))
    def command(size: int) -> None:
        raise AssertionError(size)

    done = CliRunner().invoke(command, ["--n", "4"])
    assert (done.exit_code, "no 4" in done.stderr) == (2, True)
