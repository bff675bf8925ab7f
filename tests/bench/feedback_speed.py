"""How fast types are encoded with error feedback, beside the same with the importance alone.

``python -m tests.bench.feedback_speed [TYPE...] [--json FILE]``: one thread, a whole tensor of 4,096 x 4,096, seconds
of processor time in turns, the factorization of its moments included.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import numpy as np

from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.feedback.correlations import EXACT, make_factors, pack_correlations
from qxmix.quants.feedback.options import Feedback
from tests.bench.machine import write_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N = 4096


def moments(n_cols: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Correlations and mean squares of correlated inputs, some columns much larger than others."""
    rng = np.random.default_rng(7)
    spans = []
    for _ in range(0, n_cols, 256):
        a = rng.standard_normal((1024, 256)) @ (np.identity(256) + rng.standard_normal((256, 256)) / 16)
        a *= np.exp(rng.standard_normal(256))
        spans.append(a.T @ a / len(a))
    diagonals = np.concatenate([np.diagonal(m) for m in spans]).astype(np.float32)
    return pack_correlations(np.stack(spans), n_cols), diagonals


def seconds(encode: Callable[[], None]) -> float:
    start = time.process_time()
    encode()
    return time.process_time() - start


def measure(name: str, rounds: int) -> dict[str, float]:
    """Millions of weights per second with the importance alone and with feedback."""
    correlations, columns = moments(N)
    x = np.random.default_rng(5).standard_t(4, (N, N)).astype(np.float32)
    codec, packed = codec_of(name), np.empty((N, get(name).row_nbytes(N)), np.uint8)
    assert codec.feedback is not None

    def plain(rows: slice = slice(None)) -> None:
        codec.encode(x[rows], columns, packed[rows], 0)

    def fed_back(rows: slice = slice(None)) -> None:
        factors, failed = make_factors(correlations, columns, EXACT, Feedback())
        assert failed == -1 and codec.feedback is not None  # noqa: PT018 - the second is for the type checker
        codec.feedback(x[rows], columns, factors, packed[rows], 0)

    for once in (plain, fed_back):
        once(slice(0, 64))  # compiles or loads
    times = [(seconds(plain), seconds(fed_back)) for _ in range(rounds)]
    return {
        who: round(N * N / median(found) / 1e6, 2)
        for who, found in zip(("imatrix", "feedback"), zip(*times, strict=True), strict=True)
    }


@click.command()
@click.argument("types", nargs=-1)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "json_path", type=Path, help="Write the figures to this file, too.")
def main(types: tuple[str, ...], rounds: int, json_path: Path | None) -> None:
    """Print Mw/s of each type."""
    results = []
    for name in types or tuple(t.name for t in QUANT_TYPES if t.feeds_back):
        speed = measure(name, rounds)
        results.append({"type": name, "speed": speed})
        ratio = speed["feedback"] / speed["imatrix"]
        click.echo(f"{name:8} {speed['imatrix']:6.1f} {speed['feedback']:6.1f} Mw/s, {ratio:.2f}x")
        if json_path is not None:
            write_run(json_path, "feedback-speed", {"shape": [N, N], "rounds": rounds}, results, "type")


if __name__ == "__main__":
    main()
