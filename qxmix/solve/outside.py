"""Measurements of other tools: Thireus' tables of single-tensor divergences, and EAddario's error files of llama.cpp.

A table (CSV) has a row per type and a column per tensor, ``404`` where nothing was measured; the figure is the
divergence (or the perplexity) of the model with that one tensor in that type.  An error file (``.bpw_state`` of
llama.cpp's pull request 15550) has candidates and their weighted errors for each tensor::

    u64 magic "BPW-V1" | u64 model | u64 n, then n times
    u32 length, name | u64 n_candidates | i32 choice | f32 least bpw | f32 most bpw | u64 weights, then for each of them
        i32 type | f32 bpw | u64 bytes | f64 error

Published ones are not to be believed unseen: of 26 tables of whole models six have a type that is half a bit larger and
a quarter worse, one has zeros, and in one the smallest figure is 95 % of the median, so that most of it is noise.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from pathlib import Path
from statistics import median

from qxmix.errors import ModelFileError, Problem
from qxmix.quants import by_id, find, get
from qxmix.solve.prior import Prior

MAGIC = struct.pack("<Q", 0x4250572D5631)
_MISSING = 404.0
"""What Thireus' tables have where nothing was measured."""
_HEAD, _TENSOR, _CANDIDATE = struct.Struct("<QQQ"), struct.Struct("<QiffQ"), struct.Struct("<ifQd")
_FLOOR = 0.5
"""Share of a row's median from which on its least figure is taken for noise that all figures have."""
_TAKEN_OFF = 0.95
"""Share of that least figure that is taken off."""
_LARGER_BPW, _WORSE = 0.5, 1.25
_LARGEST = 1 << 28
"""Bytes of a file that is read: the largest public one has 5 MB."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a foreign file says."""

    losses: Mapping[str, Mapping[str, float]]
    """Tensor to upper-case type to loss, in whatever unit the file has."""
    is_loss: bool
    """Whether the figures are losses of the model, rather than errors of weights."""
    problems: tuple[Problem, ...]
    """What in it is not to be believed, and what was done about it."""


def is_outside(path: Path) -> bool:
    """Whether a file looks like one of these."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.startswith(MAGIC) or start[:6].upper() in (b"QTYPE,", b'"QTYPE')


def read_outside(path: Path) -> Outside:
    """Read a table or an error file, and check it.

    Raises:
        ModelFileError: it cannot be read, is damaged, or nothing in it is to be believed.

    """
    with ModelFileError.of_system(path, "cannot be read"):
        data = path.read_bytes()
    if len(data) > _LARGEST:
        raise ModelFileError.at(path, f"has {len(data):,} bytes; no such file is so large")
    return _errors(path, data) if data.startswith(MAGIC) else _table(path, data)


def sensitivities(losses: Mapping[str, Mapping[str, float]], prior: Prior) -> dict[str, float]:
    """Loss per usual error of each tensor: the median over its types."""
    found = {}
    for name, by_type in losses.items():
        ratios = [loss / error for kind, loss in by_type.items() if (error := prior.error(kind))]
        if ratios:
            found[name] = median(ratios)
    return found


def _table(path: Path, data: bytes) -> Outside:
    try:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ModelFileError.at(path, f"is no table: {error}") from None
    names = [cell.strip() for cell in rows[0][1:]] if rows else []
    if names == ["group0"]:
        text = "is of the whole model in one type; the table of single tensors is wanted, which has a column for each"
        raise ModelFileError.at(path, text)
    problems: list[Problem] = []
    losses: dict[str, dict[str, float]] = {name: {} for name in names}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        known = find(row[0].strip())
        if known is None or len(row) != len(names) + 1:
            told = f"line {number} is left out: " + (
                "a type that nobody knows" if known is None else "not a cell per tensor"
            )
            problems.append(Problem(str(path), told, "warning"))
            continue
        for name, value in _believed(path, number, known.name, names, row[1:], problems):
            losses[name][known.name] = value
    losses = {name: by_type for name, by_type in losses.items() if by_type}
    return _checked(path, Outside(losses, is_loss=True, problems=tuple(problems)))


def _believed(
    path: Path, number: int, kind: str, names: Sequence[str], cells: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[str, float]]:
    """The figures of a row without what was not measured, zeros, and the noise that all of them have."""
    found = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            value = float(cell)
        except ValueError:
            raise ModelFileError.at(path, f"line {number}: '{cell}' is no number") from None
        if isfinite(value) and 0 < value != _MISSING:
            found[name] = value
    n_odd = len(names) - len(found)
    if n_odd:
        text = f"{kind}: {n_odd:,} of {len(names):,} tensors were not measured, or are zero; they take what is usual"
        problems.append(Problem(str(path), text, "warning"))
    if not found:
        return
    least, middle = min(found.values()), median(found.values())
    if len(found) > 2 and least > _FLOOR * middle:  # noqa: PLR2004 - two figures have no floor
        share = 100 * least / middle
        text = f"{kind}: the least figure is {share:.0f} % of the median, mostly noise; 95 % of it is taken off all"
        problems.append(Problem(str(path), text, "warning"))
        found = {name: value - _TAKEN_OFF * least for name, value in found.items()}
    yield from found.items()


def _errors(path: Path, data: bytes) -> Outside:
    losses: dict[str, dict[str, float]] = {}
    at, problems = _HEAD.size, []
    try:
        for _ in range(_HEAD.unpack_from(data)[2]):
            (length,) = struct.unpack_from("<I", data, at)
            # A length that is damaged reaches beyond the end, where the next number is missing.
            name = data[at + 4 : at + 4 + length].decode()
            at += 4 + length
            n_candidates = _TENSOR.unpack_from(data, at)[0]
            at += _TENSOR.size
            losses[name] = {}
            for _ in range(n_candidates):
                type_id, _, _, error = _CANDIDATE.unpack_from(data, at)
                at += _CANDIDATE.size
                known = by_id(type_id)
                if known is not None and isfinite(error) and error > 0:
                    losses[name][known.name] = error
    except (struct.error, ValueError):
        raise ModelFileError.at(path, f"is damaged at byte {at:,}; make it again") from None
    if empty := [name for name, by_type in losses.items() if not by_type]:
        text = f"{len(empty):,} tensors like {empty[0]} have no error above zero and take what is usual"
        problems.append(Problem(str(path), text, "warning"))
    kept = {name: by_type for name, by_type in losses.items() if by_type}
    return _checked(path, Outside(kept, is_loss=False, problems=tuple(problems)))


def _checked(path: Path, found: Outside) -> Outside:
    """With what is impossible: a larger type that is worse over most of the tensors is left out."""
    if not found.losses:
        raise ModelFileError.at(path, "has no figure that can be believed")
    means = _means(found.losses)
    worse = {
        large: small
        for large, loss in means.items()
        for small, other in means.items()
        if get(large).bpw >= get(small).bpw + _LARGER_BPW and loss > _WORSE * other
    }
    problems = [
        Problem(str(path), f"{large} is left out: larger than {small} and worse, which cannot be", "warning")
        for large, small in worse.items()
    ]
    losses = {name: {t: v for t, v in by_type.items() if t not in worse} for name, by_type in found.losses.items()}
    losses = {name: by_type for name, by_type in losses.items() if by_type}
    return Outside(losses, found.is_loss, (*found.problems, *problems))


def _means(losses: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Geometric mean of each type over the tensors that have all types, or else over its own."""
    kinds = sorted({kind for by_type in losses.values() for kind in by_type})
    whole = [by_type for by_type in losses.values() if len(by_type) == len(kinds)]
    found = {}
    for kind in kinds:
        values = [by_type[kind] for by_type in (whole or losses.values()) if kind in by_type]
        found[kind] = exp(sum(map(log, values)) / len(values))
    return found
