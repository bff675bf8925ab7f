"""Losses of single tensors, tie groups and whole recipes, by swapping them into a base that stays loaded."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from math import fsum
from typing import Any

from qxmix.errors import ModelFileError, RunError
from qxmix.execute.sample import Rows
from qxmix.execute.source import Source
from qxmix.measure.groups import fill, groups_of, in_order
from qxmix.measure.joint import SHARES, choices
from qxmix.measure.journal import Journal, key_of
from qxmix.measure.model import Job
from qxmix.measure.score import Scorer
from qxmix.measure.swap import BASE_TYPES, Swap
from qxmix.measurement.model import JointPoint, MeasuredTensor, Point, Sensitivity
from qxmix.quants import codec_of, get

CHECK_EVERY = 32
"""Passes after which the base's logits are compared: three in a hundred."""


class Bench:
    """A base in an engine, and the losses that it gave; each is kept under what it follows from."""

    def __init__(self, job: Job, scorer: Scorer, journal: Journal, executor: Executor, digest: str) -> None:
        """Take over a scorer whose base has been run.

        Args:
            job: what to measure.
            scorer: where.
            journal: what is known already, and where losses go.
            executor: of ``job.settings.n_workers`` threads, for the encoders.
            digest: of the weights and importances, and of everything that losses depend on besides.

        """
        self.job = job
        self.scorer = scorer
        self._journal = journal
        self._executor = executor
        self._digest = digest
        self._sources = {source.tensor.name: source for source in job.sources}
        self._unchecked: list[str] = []

    def loss(self, types: Mapping[str, str]) -> tuple[float, float, float]:
        """Error, loss and its standard error with some tensors in other types.

        Raises:
            RunError: the engine died, or does not give the base's results any more.

        """
        key = key_of("loss", self._digest, [[name, t, codec_of(t).version] for name, t in types.items()])
        known = self._journal.get(key)
        if known is None:
            swaps = {
                n: Swap(self._sources[n], t, self._executor, self.job.settings.n_workers) for n, t in types.items()
            }
            with self.scorer.swapped(swaps):
                loss = self.scorer.loss()
            known = [fsum(swap.error for swap in swaps.values()), loss.value, loss.error]
            self._journal.put(key, known)
            self._unchecked.append(key)
            if len(self._unchecked) >= CHECK_EVERY:
                self.check()
        error, value, spread = known
        return float(error), float(value), float(spread)

    def check(self) -> None:
        """Compare with the base, and take back what was measured since the last time if it is another one.

        Raises:
            RunError: it is.

        """
        if self._unchecked and not self.scorer.is_base():
            for key in self._unchecked:
                self._journal.put(key, None)
            msg = "does not give the base's results any more after tensors were put back"
            told = f"{self.scorer.engine} {msg}; the last {len(self._unchecked)} losses are thrown away: run it again"
            raise RunError(told)
        self._unchecked.clear()

    def noise_floor(self) -> float:
        """Loss where half of the weights of the first tensor move to the next number of the base's type."""
        return float(self.kept("floor", self._noise))

    def _noise(self) -> float:
        source = next(s for s in self.job.sources if s.tensor.type in BASE_TYPES)
        with self.scorer.swapped({source.tensor.name: _nudged(source)}):
            return abs(self.scorer.loss().value)

    def kept(self, name: str, find: Callable[[], Any]) -> Any:  # noqa: ANN401 - what JSON holds
        """What is in the journal under ``name``, or else is found now."""
        key = key_of(name, self._digest)
        if self._journal.get(key) is None:
            self._journal.put(key, find())
        return self._journal.get(key)


def _nudged(source: Source) -> Iterator[tuple[int, bytes]]:
    """The first 2^20 weights or less, every other one by the smallest step; of Q8_0 by one level."""
    tensor = source.tensor
    n_rows = max(1, min(tensor.n_rows, (1 << 20) // tensor.n_cols))
    packed = source.read([Rows(0, 0, n_rows)])
    step = {"F32": (4, 0), "F16": (2, 0), "BF16": (2, 0), "Q8_0": (34, 2)}[tensor.type]
    flat = packed.reshape(-1)
    flat[step[1] :: 2 * step[0]] ^= 1  # little-endian: the lowest bit of the mantissa, or of the first level
    yield 0, flat.tobytes()


def plan_passes(job: Job) -> tuple[tuple[float, tuple[str, ...]], ...]:
    """Bits per weight and the group that is swapped in each pass, the most telling first.

    Raises:
        ModelFileError: the base has only types that are too coarse to hold what others decode to.

    """
    fit = [
        s.tensor.name
        for s, types in zip(job.sources, job.allowed, strict=True)
        if s.tensor.type in BASE_TYPES and types
    ]
    if not fit:
        found = ", ".join(sorted({s.tensor.type for s in job.sources}))
        msg = f"its weights are {found}; losses are measured on a base of {', '.join(BASE_TYPES)}: give that one"
        raise ModelFileError.at(job.path, msg)
    groups = in_order(groups_of(fit, tied=job.settings.tied))
    passes = [(bits, group) for bits in job.settings.bits for group in groups]
    return tuple(passes[: job.settings.n_measurements])


def measure_points(
    bench: Bench,
    tensors: Sequence[MeasuredTensor],
    passes: Sequence[tuple[float, tuple[str, ...]]],
    on_pass: Callable[[], None],
) -> tuple[Point, ...]:
    """The loss of each group at each number of bits per weight, until the time is over."""
    by_name = {t.name: t for t in tensors}
    began, limit = time.monotonic(), bench.job.settings.seconds
    points: list[Point] = []
    for bits, group in passes:
        if points and limit is not None and time.monotonic() - began > limit:
            break
        type_name = _type_for([by_name[name] for name in group], bits)
        error, loss, spread = bench.loss(dict.fromkeys(group, type_name))
        points.append(Point(group, type_name, error, loss, spread))
        on_pass()
    bench.check()
    return tuple(points)


def _type_for(group: Sequence[MeasuredTensor], bits: float) -> str:
    """The type nearest to ``bits`` that every tensor of the group may have; of several the one with the least error.

    Not the type with a given error: where a few weights carry nearly all importance, the weighted error is small even
    at two bits, and the loss that goes with it says nothing about the types that such a tensor should get.
    """
    shared = [t for t in group[0].trials if all(any(t.type == u.type for u in other.trials) for other in group)]
    return min(shared or group[0].trials, key=lambda t: (abs(get(t.type).bpw - bits), t.error)).type


def with_sensitivities(
    tensors: Sequence[MeasuredTensor], points: Sequence[Point], floor: float
) -> tuple[MeasuredTensor, ...]:
    """Each tensor with its loss per error; a group's members share theirs.

    A loss of exactly zero is none: the engine does not read that tensor for this text (heads for several tokens ahead,
    experts that were never called), so what it is worth is not known.
    """
    found: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        if point.loss != 0 and point.error:
            found[point.tensors].append((max(point.loss - floor, 0.0) / point.error, point.loss_error / point.error))
    if not found:
        return tuple(tensors)
    measured = {name: _mean(ratios) for group, ratios in found.items() for name in group}
    filled = fill([t.name for t in tensors], measured)
    return tuple(t._replace(sensitivity=filled[t.name]) for t in tensors)


def _mean(ratios: Sequence[tuple[float, float]]) -> Sensitivity:
    """The mean over types; its error is what the tokens leave open, or how much the types differ."""
    n = len(ratios)
    value = fsum(v for v, _ in ratios) / n
    of_tokens = fsum(e * e for _, e in ratios) ** 0.5 / n
    of_types = (fsum((v - value) ** 2 for v, _ in ratios) / (n * max(1, n - 1))) ** 0.5
    return Sensitivity(value, max(of_tokens, of_types), "measured")


def measure_joint(
    bench: Bench, tensors: Sequence[MeasuredTensor], on_pass: Callable[[], None]
) -> tuple[JointPoint, ...]:
    """The losses of some whole recipes."""
    points = []
    for share in SHARES:
        chosen = choices(tensors, share)
        types = {t.name: trial.type for t, trial in zip(tensors, chosen, strict=True) if trial}
        _, loss, spread = bench.loss(types)
        n_bytes = sum(trial.nbytes for trial in chosen if trial)
        names = tuple(trial.type if trial else "" for trial in chosen)
        points.append(JointPoint(f"{share:.0%} of the way from smallest to largest", names, n_bytes, loss, spread))
        on_pass()
    bench.check()
    return tuple(points)
