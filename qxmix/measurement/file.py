"""The file of a measurement: one JSON object, ``schemas/measurement.schema.json``.

What there is of every tensor and type stands in columns, so that a model of 1,086 tensors and 20 types loads in a tenth
of a second.  Figures have six digits: more than a sample of rows or tokens can tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qxmix.container.identity import header_sha256
from qxmix.container.model import ModelHeader
from qxmix.container.whole_file import write_whole
from qxmix.errors import ModelFileError, Problem
from qxmix.measurement.model import (
    METRICS,
    ORIGINS,
    JointPoint,
    MeasuredModel,
    MeasuredTensor,
    Measurement,
    Point,
    Run,
    Sensitivity,
    Trial,
)
from qxmix.quants import ENGINES
from qxmix.recipe.model import TARGETS

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix

VERSION = 1

_Choice = TypeVar("_Choice", bound=str)


def save_measurement(measurement: Measurement, path: Path) -> None:
    """Write ``measurement``; equal values give equal bytes, and the file is replaced only by a whole one.

    Raises:
        ModelFileError: it cannot be written.

    """
    with ModelFileError.of_system(path, "cannot be written"):
        write_whole(path, dumps(measurement))


def load_measurement(path: Path) -> Measurement:
    """Read a measurement.

    Raises:
        ModelFileError: the file cannot be read, is no measurement of this version, or is damaged.

    """
    try:
        with ModelFileError.of_system(path, "cannot be read"):
            raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or raw.get("qxmix_measurement") != VERSION:
        told = "is no measurement of this version; make one with 'qxmix measure MODEL -o M.json'"
        raise ModelFileError.at(path, told)
    try:
        return _measurement(raw)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFileError.at(path, f"is damaged ({_reason(error)}); measure again, or restore the file") from None


def check_belongs(measurement: Measurement, path: Path, header: ModelHeader, imatrix: Imatrix | None) -> None:
    """Insist that a measurement is of this model and this importance matrix.

    Args:
        measurement: what was loaded.
        path: from where, for the error.
        header: the model that it shall be used for.
        imatrix: the importance matrix that encoders shall use, or None.

    Raises:
        ModelFileError: it is of others; both differences at once.

    """
    problems = []
    if measurement.model.header_sha256 != header_sha256(header):
        of = f"of another model ({measurement.model.name}, {measurement.model.n_tensors:,} tensors)"
        problems.append(f"it is {of} than {header.path}; measure this one with 'qxmix measure {header.path}'")
    ours = None if imatrix is None else imatrix.sha256
    if ours and not measurement.imatrix_sha256:
        problems.append("it was made without an importance matrix; leave out --imatrix")
    elif measurement.imatrix_sha256 != ours:
        was, now = (f"importance matrix {sha[:12]}" if sha else "none" for sha in (measurement.imatrix_sha256, ours))
        problems.append(f"it was made with {was} and not with {now}; give --imatrix with the file it was made with")
    if problems:
        raise ModelFileError([Problem(str(path), text) for text in problems])


def dumps(measurement: Measurement) -> str:
    """The content of the file: a line per tensor, point and joint point."""
    m = measurement
    places = {name: i for i, name in enumerate(m.types)}
    head: dict[str, Any] = {
        "qxmix_measurement": VERSION,
        "model": m.model._asdict(),
        "imatrix_sha256": m.imatrix_sha256,
        "target": m.target,
        "metric": m.metric,
        "types": m.types,
        "run": None if m.run is None else m.run._asdict() | {"noise_floor": _digits(m.run.noise_floor)},
    }
    lists = {
        "tensors": [_tensor_object(t, m.types) for t in m.tensors],
        "points": [_point_object(p) for p in m.points],
        "joint": [_joint_object(p, places) for p in m.joint],
    }
    parts = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in head.items()]
    parts += [f"{json.dumps(key)}: {_lines(values)}" for key, values in lists.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(values: Sequence[object]) -> str:
    lines = [json.dumps(value, separators=(",", ":"), allow_nan=False) for value in values]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def _tensor_object(tensor: MeasuredTensor, types: Sequence[str]) -> dict[str, object]:
    of = {trial.type: trial for trial in tensor.trials}
    trials = [of.get(name) for name in types]
    s, inputs = tensor.sensitivity, tensor.input_errors
    found: dict[str, object] = {
        "name": tensor.name,
        "shape": tensor.shape,
        "n_rows": tensor.n_rows,
        "nbytes": [trial and trial.nbytes for trial in trials],
        "error": [trial and _digits(trial.error) for trial in trials],
        "cosine": [trial and _digits(trial.cosine) for trial in trials],
        "sensitivity": s and [_digits(s.value), _digits(s.error), s.origin],
    }
    return found if inputs is None else found | {"input_errors": [_digits(e) for e in inputs]}


def _point_object(point: Point) -> dict[str, object]:
    return {
        "tensors": point.tensors,
        "type": point.type,
        "error": None if point.error is None else _digits(point.error),
        "loss": _digits(point.loss),
        "loss_error": _digits(point.loss_error),
    }


def _joint_object(point: JointPoint, places: dict[str, int]) -> dict[str, object]:
    return {
        "name": point.name,
        "types": [places[name] if name else None for name in point.types],
        "nbytes": point.nbytes,
        "loss": _digits(point.loss),
        "loss_error": _digits(point.loss_error),
    }


def _measurement(raw: dict[str, Any]) -> Measurement:
    types = tuple(_text(name) for name in raw["types"])
    tensors = tuple(_tensor(t, types) for t in raw["tensors"])
    joint = tuple(_joint(p, types) for p in raw["joint"])
    if any(len(p.types) != len(tensors) for p in joint):
        raise ValueError("a joint point has not one type per tensor")
    model = raw["model"]
    return Measurement(
        MeasuredModel(
            _text(model["name"]),
            _text(model["architecture"]),
            _text(model["header_sha256"]),
            _count(model["n_tensors"]),
            _count(model["n_weights"]),
        ),
        None if raw["imatrix_sha256"] is None else _text(raw["imatrix_sha256"]),
        _choice(raw["target"], TARGETS),
        types,
        _choice(raw["metric"], METRICS),
        tensors,
        None if raw["run"] is None else _run(raw["run"]),
        tuple(map(_point, raw["points"])),
        joint,
    )


def _tensor(raw: dict[str, Any], types: tuple[str, ...]) -> MeasuredTensor:
    columns = [raw[key] for key in ("nbytes", "error", "cosine")]
    if any(len(column) != len(types) for column in columns):
        raise ValueError(f"tensor {raw['name']!r} has not one figure per type")
    there = [row for row in zip(types, *columns, strict=True) if None not in row]
    # At once for the whole tensor: this is the bulk of a large file.
    if there and not (min(row[1] for row in there) > 0 <= min(map(_number, (row[2] for row in there)))):
        raise ValueError(f"tensor {raw['name']!r} has a size or an error below zero")
    s = raw["sensitivity"]
    return MeasuredTensor(
        _text(raw["name"]),
        tuple(map(_count, raw["shape"])),
        _count(raw["n_rows"]),
        tuple(Trial(name, _count(nbytes), error, _number(cosine)) for name, nbytes, error, cosine in there),
        None if s is None else Sensitivity(_number(s[0]), _number(s[1]), _choice(s[2], ORIGINS)),
        _input_errors(raw),
    )


def _input_errors(raw: dict[str, Any]) -> tuple[float, float] | None:
    if "input_errors" not in raw:  # measured without a text, or before these were observed
        return None
    fine, coarse = map(_number, raw["input_errors"])
    if min(fine, coarse) < 0:
        raise ValueError(f"tensor {raw['name']!r} has an error below zero")
    return fine, coarse


def _point(raw: dict[str, Any]) -> Point:
    error = None if raw["error"] is None else _number(raw["error"])
    names = tuple(map(_text, raw["tensors"]))
    return Point(names, _text(raw["type"]), error, _number(raw["loss"]), _number(raw["loss_error"]))


def _joint(raw: dict[str, Any], types: tuple[str, ...]) -> JointPoint:
    of = dict(zip(range(len(types)), types, strict=True)) | {None: ""}
    chosen = tuple(of[i] for i in raw["types"])
    nbytes = _count(raw["nbytes"])
    return JointPoint(_text(raw["name"]), chosen, nbytes, _number(raw["loss"]), _number(raw["loss_error"]))


def _run(raw: dict[str, Any]) -> Run:
    return Run(
        _choice(raw["engine"], ENGINES),
        _text(raw["version"]),
        n_threads=_count(raw["n_threads"]),
        n_ubatch=_count(raw["n_ubatch"]),
        n_ctx=_count(raw["n_ctx"]),
        first_chunk=_count(raw["first_chunk"]),
        n_chunks=_count(raw["n_chunks"]),
        text_sha256=_text(raw["text_sha256"]),
        noise_floor=_number(raw["noise_floor"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value


def _number(value: object) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def _choice(value: object, choices: Sequence[_Choice]) -> _Choice:
    found = next((choice for choice in choices if choice == value), None)
    if found is None:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")
    return found


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)[:100]
