"""The exhaustive searches against trying every rounding: ``python -m tests.bench.brute [TYPE...] [--blocks N]``.

Blocks with their importances are drawn, searched by the type's exhaustive kernel, and gone through by a plain loop in
float64 that skips nothing (``tests.quants.naive.roundings``).  What the kernel's levels explain of a block's energy,
each with its own best scale, is compared with the most that any rounding explains.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from qxmix.quants import codec_of
from qxmix.quants.codec import SEARCHES
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ4_LEVELS
from tests.bench.machine import write_run
from tests.quants.naive.roundings import best_explained

Blocks = np.ndarray[Any, np.dtype[np.float32]]
"""(n_blocks, n) values or importances."""

EQUAL = 1e-12
"""Relative difference of two float64 sums that are called equal; the kernel takes what is better by 1e-13."""
BATCH = 64 * LANES


class Searched(NamedTuple):
    """What a type's search is given."""

    block: int
    levels: np.ndarray


SEARCHED = {
    "Q4_0": Searched(32, np.arange(-8, 8)),
    "Q5_0": Searched(32, np.arange(-16, 16)),
    "Q6_0": Searched(32, np.arange(-32, 32)),
    "IQ4_NL": Searched(32, IQ4_LEVELS),
    "IQ4_XS": Searched(32, IQ4_LEVELS),
    "Q3_K": Searched(16, np.arange(-4, 4)),
    "Q6_K": Searched(16, np.arange(-32, 32)),
}


def _gaussian(rng: np.random.Generator, x: Blocks, _w: Blocks) -> None:
    x[:] = rng.standard_normal(x.shape)


def _heavy(rng: np.random.Generator, x: Blocks, _w: Blocks) -> None:
    x[:] = rng.standard_t(rng.uniform(1, 4), x.shape) * 10.0 ** rng.integers(-6, 6, (len(x), 1))


def _outliers(rng: np.random.Generator, x: Blocks, w: Blocks) -> None:
    x[:, 0] *= 10.0 ** rng.uniform(0, 4, len(x))
    w[:, 0] *= 10.0 ** rng.uniform(-9, 2, len(x))


def _ties(rng: np.random.Generator, x: Blocks, w: Blocks) -> None:
    x[:] = np.round(x * 4) / 4
    w[:] = 2.0 ** rng.integers(-3, 3, x.shape)


def _few_values(rng: np.random.Generator, x: Blocks, _w: Blocks) -> None:
    step = rng.uniform(0.01, 2, (len(x), 1))
    x[:] = step * rng.integers(-3, 4, x.shape)


def _wide_importances(rng: np.random.Generator, x: Blocks, w: Blocks) -> None:
    w[:] = 10.0 ** rng.uniform(-20, 6, x.shape)


def _no_importance(_rng: np.random.Generator, x: Blocks, w: Blocks) -> None:
    w[:] = np.square(x)


KINDS = {
    "gaussian": _gaussian, "heavy tails": _heavy, "outliers": _outliers, "ties": _ties, "few values": _few_values,
    "wide importances": _wide_importances, "weights squared": _no_importance,
}  # fmt: skip
"""What is done to student-t blocks with importances from a gamma distribution."""


def draw(rng: np.random.Generator, kind: str, n_blocks: int, block: int) -> tuple[Blocks, Blocks]:
    """Values and importances of blocks."""
    x = rng.standard_t(5, (n_blocks, block)).astype(np.float32)
    w = (rng.gamma(0.7, 1.0, x.shape) + 1e-3).astype(np.float32)
    KINDS[kind](rng, x, w)
    return x, w


def found_by_kernel(name: str, x: Blocks, w: Blocks) -> np.ndarray:
    """What the levels explain that the exhaustive kernel of a type chooses: (n_blocks,) float64; whole lanes."""
    search = codec_of(name).search_block
    assert search is not None
    scale, q = np.empty(LANES, np.float32), np.empty((x.shape[1], LANES), np.float32)
    gains: list[np.ndarray] = []
    for i in range(0, len(x), LANES):
        a, b = np.ascontiguousarray(x[i : i + LANES].T), np.ascontiguousarray(w[i : i + LANES].T)
        search(a, b, SEARCHES.index("exhaustive"), scale, q)
        a64, b64, q64 = (v.astype(np.float64) for v in (a, b, q))
        s1, s2 = (b64 * a64 * q64).sum(axis=0), (b64 * q64 * q64).sum(axis=0)
        gains.append(np.square(s1) / np.where(s2 > 0, s2, 1))
    return np.concatenate(gains)


def differences(rng: np.random.Generator, name: str, kind: str, n_blocks: int) -> np.ndarray:
    """By what part of the best the kernel explains less than it: (n_blocks,); negative where it explains more."""
    searched = SEARCHED[name]
    x, w = draw(rng, kind, n_blocks, searched.block)
    best = best_explained(x, w, searched.levels)
    gap: np.ndarray = (best - found_by_kernel(name, x, w)) / np.where(best > 0, best, 1)
    return gap


def compare(name: str, n_blocks: int) -> dict[str, Any]:
    """Blocks, the worst difference and blocks that are worse, of one type by kind of block."""
    kinds: dict[str, Any] = {}
    start = time.process_time()
    for number, kind in enumerate(KINDS):
        rng, done, worst, worse = np.random.default_rng(number), 0, 0.0, 0
        while done * len(KINDS) < n_blocks:
            found = differences(rng, name, kind, BATCH)
            done += len(found)
            worst, worse = max(worst, float(np.abs(found).max())), worse + int((found > EQUAL).sum())
        kinds[kind] = {"blocks": done, "worst": worst, "worse": worse}
    blocks, worse = (sum(k[what] for k in kinds.values()) for what in ("blocks", "worse"))
    worst = max(k["worst"] for k in kinds.values())
    seconds = round(time.process_time() - start, 1)
    return {"type": name, "blocks": blocks, "worst": worst, "worse": worse, "seconds": seconds, "kinds": kinds}


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1, type=click.Choice(list(SEARCHED)))
@click.option("--blocks", default=1_000_000, show_default=True, help="Blocks of each type, at least.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(names: tuple[str, ...], blocks: int, json_path: Path | None) -> None:
    """Print a Markdown table of how TYPEs, or all that have this search, do."""
    results = []
    click.echo("| type | blocks | worst relative difference | worse | processor s |\n|---|---:|---:|---:|---:|")
    for name in names or SEARCHED:
        found = compare(name, blocks)
        results.append(found)
        click.echo("| {type} | {blocks} | {worst:.1e} | {worse} | {seconds} |".format(**found))
    if json_path is not None:
        write_run(json_path, "brute", {"equal": EQUAL}, results, "type")


if __name__ == "__main__":
    main()
