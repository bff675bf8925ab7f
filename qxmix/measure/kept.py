"""What an output has of the whole numbers that a model's weights are multiples of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qxmix.container.model import ModelHeader
from qxmix.errors import Problem
from qxmix.execute import digests, stop
from qxmix.execute.result import OnProgress, Progress
from qxmix.execute.source import Source
from qxmix.measure.lattice import ROUNDING, distances, fit, last_places, leaf_data, room_of
from qxmix.measurement.lattice import Kept, Lattice, expected_of
from qxmix.plan import Plan
from qxmix.planning.lattice import how_kept
from qxmix.planning.silence import is_silenced
from qxmix.processors import n_processors
from qxmix.quants.codec import Rows


class _Leaf(NamedTuple):
    """Of some rows, as in ``Kept``."""

    n_lost: int
    steps: float
    units: float


def kept_of(
    output: ModelHeader, plan: Plan, path: Path, found: tuple[Lattice, ...], n_workers: int | None,
    on_progress: OnProgress,
) -> tuple[Kept, ...]:  # fmt: skip
    """Compare an output with the model that lattices were found in.

    Args:
        output: what was made.
        plan: what its recipe makes of the model.
        path: the file of the lattices.
        found: its content.
        n_workers: threads; None for one per processor.
        on_progress: called after each tensor.

    Raises:
        ModelFileError: the lattices were found in other weights; a weight is NaN or infinite.
        RunError: a file ends early, or cannot be read.

    """
    source, expected = plan.header, expected_of(path, found)
    models, made = ({t.name: t for t in header.tensors} for header in (source, output))
    rules = {t.name: t.rule for t in plan.tensors}

    def kept(lattice: Lattice) -> Kept:
        name = lattice.tensor
        of, to = models[name], made[name]
        there = Source(of, source.paths[of.shard], None, None), Source(to, output.paths[to.shard], None, None)
        leaves, sha256 = _compared(*there, lattice)
        expected.compare(source.path, name, sha256)
        meant = lattice.type is None or is_silenced(plan.recipe, rules[name], "lattice-lost")
        steps, units = max(leaf.steps for leaf in leaves), max(leaf.units for leaf in leaves)
        n_lost = sum(leaf.n_lost for leaf in leaves)
        return Kept(lattice, to.type, of.n_weights, n_lost, steps, None if lattice.minimum else units, meant)

    looked_at, done, total = [], 0, sum(models[lattice.tensor].nbytes for lattice in found)
    with stop.threads(n_workers or n_processors()) as pool:
        for one in pool.map(kept, found):
            looked_at.append(one)
            done += models[one.lattice.tensor].nbytes
            on_progress(Progress("lattice", done, total, one.lattice.tensor))
    return tuple(looked_at)


def problems_of(kept: Iterable[Kept]) -> Iterator[Problem]:
    """Tensors whose whole numbers are lost and were not meant to be."""
    for one in kept:
        keeper = one.lattice.type
        if one.n_lost and not one.meant and keeper is not None:
            text = f"whole numbers of its lattice of {one.lattice.what} are lost in {one.type}; in a recipe"
            yield Problem(one.lattice.tensor, f"{text}, {keeper.lower()}{how_kept(keeper)} keeps every one")


def _compared(source: Source, output: Source, lattice: Lattice) -> tuple[list[_Leaf], str]:
    """The leaves of a tensor, and the digest of the model's data, or nothing where it has no such lattice."""
    leaves: list[_Leaf] = []
    parts: list[bytes] = []
    for data, made in zip(leaf_data(source), leaf_data(output), strict=True):
        parts.append(hashlib.sha256(data.data).digest())
        leaf = _leaf(source.decode(data), output.decode(made), lattice, ROUNDING.get(source.tensor.type))
        if leaf is None:
            return [], ""
        leaves.append(leaf)
    return leaves, digests.combine(parts).hex()


def _leaf(x: Rows, back: Rows, lattice: Lattice, rounding: tuple[float, float] | None) -> _Leaf | None:
    width = lattice.group or x.shape[1]
    if rounding is None or width <= 0 or x.shape[1] % width:
        return None
    found = fit(x.reshape(-1, width), rounding, minimum=lattice.minimum)
    if found is None:
        return None
    far = distances(x, back)
    n_lost = int((far > room_of(x, found, width, rounding[0])).sum())
    step = np.repeat(found.d, width).reshape(x.shape)
    steps = np.divide(far, step, out=np.zeros_like(far), where=step > 0.0)
    units = np.divide(far, last_places(x), out=np.zeros_like(far), where=x != 0.0)
    return _Leaf(n_lost, float(steps.max(initial=0.0)), float(units.max(initial=0.0)))
