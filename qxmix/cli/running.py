"""The options that say on what machine a model shall run, for every command that tells what that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from qxmix.cli.bundle import bundled
from qxmix.cli.sizes import SIZE, TOKENS, Parsed, parse_nbytes
from qxmix.quants import Engine, QuantType, get
from qxmix.recipe.limits import kv_type

if TYPE_CHECKING:
    from qxmix.running.model import Use


def _parse_kv_type(text: str) -> QuantType:
    return get(kv_type(text))


def _parse_sizes(text: str) -> tuple[int, ...]:
    """Bytes of each of several sizes with commas, one for each GPU."""
    return tuple(parse_nbytes(part.strip()) for part in text.split(","))


_KV_TYPE = Parsed("type", _parse_kv_type)
_SIZES = Parsed("size,...", _parse_sizes)


class Machine(NamedTuple):
    """On what, and with how long a text, a model shall run; nothing where nobody asked."""

    n_ctx: int | None
    kv_type: QuantType | None
    vram: tuple[int, ...] | None
    ram: int | None
    parallel: int | None

    def use(self, engine: Engine) -> Use | None:
        """How the engine shall run it; None where nobody asked.

        Raises:
            click.UsageError: a machine without a context.

        """
        if self.n_ctx is None:
            options = {
                "--kv-type": self.kv_type, "--vram": self.vram, "--ram": self.ram, "--parallel": self.parallel
            }  # fmt: skip
            given = next((name for name, value in options.items() if value is not None), None)
            if given is not None:
                raise click.UsageError(f"{given} says on what the model shall run; give --ctx, how long a text, too")
            return None
        from qxmix.running.model import Use  # noqa: PLC0415 - for those who ask

        kv_type = self.kv_type or get("F16")
        return Use(engine, self.n_ctx, kv_type, self.parallel or 1, vram=self.vram or (), ram=self.ram)


running_options = bundled(
    "machine",
    Machine,
    click.option("n_ctx", "--ctx", type=TOKENS, help="Tell what running takes with this context: 32768, 32k."),
    click.option("--kv-type", type=_KV_TYPE, help="Type of the cache, such as q8_0.  [default: f16]"),
    click.option("--vram", type=_SIZES, help="Memory that is free on each GPU: 23GiB,23GiB of two of 24."),
    click.option("--ram", type=SIZE, help="Memory that is free on the machine: 120GiB of 128."),
    click.option("--parallel", type=click.IntRange(min=1), help="Sequences at a time.  [default: 1]"),
)
"""``--ctx`` and what goes with it; the command gets a ``machine``."""
