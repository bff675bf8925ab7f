"""Reading, checking and writing moments files; their layout is drawn in :mod:`qxmix.container.moments`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qxmix.container.fields import make_field
from qxmix.container.file_digest import file_digest
from qxmix.container.gguf_format import GENERAL_TYPE, MAGIC, ValueType, pad
from qxmix.container.layout import OutputTensor, lay_out
from qxmix.container.model import MetadataField, TensorInfo
from qxmix.container.moments import Moments, MomentsEntry, SecondMoments, entry_digest
from qxmix.container.moments_check import AGAIN, Checker
from qxmix.container.parse import GgufFile, parse_opened
from qxmix.container.reader import read_strings
from qxmix.container.source import MOMENTS, FileBytes, bad_file, opened, show
from qxmix.container.whole_file import whole_file
from qxmix.quants import get
from qxmix.quants.feedback.spans import SPAN, packed_size

KIND = "moments"
_BLOCK_SIZE, _DATASETS = "moments.block_size", "moments.datasets"
_CHUNK_COUNT, _CHUNK_SIZE = "moments.chunk_count", "moments.chunk_size"
_ARCHITECTURE = "general.architecture"
_PARTS = {".diag": "F32", ".counts": "F32", ".corr": "F16", ".corr_counts": "F32"}
_NO_MOMENTS = "give the file that `qxmix imatrix make --moments` wrote"


def read_moments_file(path: Path) -> Moments:
    """See :func:`qxmix.container.moments_load.load_moments`."""
    with opened(path, MOMENTS) as data:
        if data[: len(MAGIC)] != MAGIC:
            raise bad_file(path, f"is no {MOMENTS.name}: it is no GGUF file; {_NO_MOMENTS}")
        file = parse_opened(data)
        kind = file.get(GENERAL_TYPE)
        if kind != KIND:
            what = "an importance matrix" if kind == "imatrix" else "a model" if file.get(_ARCHITECTURE) else "GGUF"
            raise bad_file(path, f"is {what} but no {MOMENTS.name}: {GENERAL_TYPE} is {show(str(kind))}; {_NO_MOMENTS}")
        if file.get(_BLOCK_SIZE) != SPAN:
            text = f"{_BLOCK_SIZE} is {file.get(_BLOCK_SIZE)} and qxmix reads blocks of {SPAN} columns; {AGAIN}"
            raise bad_file(path, text)
        entries = {name: _entry(path, name, parts) for name, parts in _by_name(file).items()}
        digests, seen = {}, {}
        with Checker(path) as checker:
            for name, entry in entries.items():
                found = _read(data, entry)
                checker.add(name, found)
                digests[name], seen[name] = entry_digest(found), tuple(map(float, found.counts))
            sha256 = file_digest(data)
            checker.finish()
        counts = {key: value if isinstance(value := file.get(key), int) else 0 for key in (_CHUNK_COUNT, _CHUNK_SIZE)}
        return Moments(
            path, sha256, MappingProxyType(entries), read_strings(file.metadata, _DATASETS),
            counts[_CHUNK_COUNT], counts[_CHUNK_SIZE], MappingProxyType(digests),
            MappingProxyType(seen),
        )  # fmt: skip


def read_entry(path: Path, name: str, entry: MomentsEntry) -> SecondMoments:
    """See :func:`qxmix.container.moments_load.read_second_moments`."""
    found = read_unchecked(path, name, entry)
    with Checker(path) as checker:
        checker.add(name, found)
        checker.finish()
    return found


def read_unchecked(path: Path, name: str, entry: MomentsEntry) -> SecondMoments:
    """See :func:`qxmix.container.moments_load.read_entry_of`."""
    with opened(path, MOMENTS) as data:
        last = max(
            t.offset + t.nbytes for t in (entry.diag, entry.counts, entry.correlations, entry.correlation_counts)
        )
        if len(data) < last:
            raise bad_file(path, f"is shorter than when it was first read: {show(name)} is cut off; {AGAIN}")
        return _read(data, entry)


def write_moments_file(
    path: Path, entries: Mapping[str, SecondMoments], datasets: tuple[str, ...], n_chunks: int, chunk_size: int,
    stated: Mapping[str, str],
) -> None:  # fmt: skip
    """See :func:`qxmix.container.moments_load.save_moments`."""
    tensors: list[OutputTensor] = []
    for name in entries:
        tensors += (
            OutputTensor(n, shape, get(t).id, get(t).nbytes(shape)) for n, t, shape, _ in _stored(name, entries)
        )
    metadata = [
        make_field(GENERAL_TYPE, KIND, ValueType.STRING),
        make_field(_BLOCK_SIZE, SPAN, ValueType.UINT32),
        make_field(_DATASETS, datasets, ValueType.ARRAY, ValueType.STRING),
        make_field(_CHUNK_COUNT, n_chunks, ValueType.UINT32),
        make_field(_CHUNK_SIZE, chunk_size, ValueType.UINT32),
        *(make_field(key, text, ValueType.STRING) for key, text in stated.items()),
    ]
    with whole_file(path) as file:
        _write(file, path, entries, tensors, metadata)


def _write(
    file: BinaryIO, path: Path, entries: Mapping[str, SecondMoments], tensors: list[OutputTensor],
    metadata: list[MetadataField],
) -> None:  # fmt: skip
    layout = lay_out(tensors, metadata)
    file.write(layout.files[0].header)
    with Checker(path) as checker:
        for name in entries:
            moments = entries[name]
            checker.add(name, moments)
            for _, _, _, values in _stored(name, {name: moments}):
                file.write(values.tobytes())
                file.write(bytes(pad(values.nbytes, 32) - values.nbytes))
        checker.finish()


def _stored(
    name: str, entries: Mapping[str, SecondMoments]
) -> tuple[tuple[str, str, tuple[int, int], NDArray[Any]], ...]:
    """Name, type, shape and values of the four tensors of an entry, in the order of ``_PARTS``."""
    moments = entries[name]
    arrays: tuple[NDArray[Any], ...] = (
        moments.diag,
        moments.counts[:, None],
        moments.correlations,
        moments.correlation_counts[:, None],
    )
    return tuple(
        (name + suffix, kind, (a.shape[1], a.shape[0]), np.ascontiguousarray(a))
        for (suffix, kind), a in zip(_PARTS.items(), arrays, strict=True)
        if a.shape[1]
    )


def _by_name(file: GgufFile) -> dict[str, dict[str, TensorInfo]]:
    """The parts of each entry, by suffix."""
    entries: dict[str, dict[str, TensorInfo]] = {}
    for tensor in file.tensors:
        suffix = next((s for s in _PARTS if tensor.name.endswith(s)), None)
        if suffix is not None:
            entries.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = tensor
    if not entries:
        raise bad_file(file.path, f"has no entry: no tensor is named *{next(iter(_PARTS))}; {AGAIN}")
    return entries


def _entry(path: Path, name: str, parts: dict[str, TensorInfo]) -> MomentsEntry:
    """The entry, once all its parts are there, of their types, and of shapes that agree."""
    for suffix, kind in _PARTS.items():
        if suffix not in parts:
            raise bad_file(path, f"has {show(name)} without its {suffix}; {AGAIN}")
        if parts[suffix].type != kind:
            raise bad_file(path, f"{show(name + suffix)} is {parts[suffix].type} and must be {kind}; {AGAIN}")
    diag, counts, corr, corr_counts = (parts[s] for s in _PARTS)
    n_cols, n_matrices = diag.n_cols, diag.n_weights // diag.n_cols
    n_correlations = corr_counts.n_weights
    wanted = {
        ".counts": (1, n_matrices),
        ".corr_counts": (1, n_correlations),
        ".corr": (packed_size(n_cols), n_correlations),
    }
    for suffix, (n_values, n_rows) in wanted.items():
        part = parts[suffix]
        if (part.n_cols, part.n_weights) != (n_values, n_values * n_rows):
            shape = " x ".join(map(str, part.shape))
            text = f"{show(name + suffix)} is {shape} and must be {n_values} x {n_rows} for {n_cols} columns; {AGAIN}"
            raise bad_file(path, text)
    if n_correlations not in {1, n_matrices}:
        text = f"{show(name)} has {n_correlations} correlations for {n_matrices} matrices, neither one nor as many"
        raise bad_file(path, f"{text}; {AGAIN}")
    return MomentsEntry(n_cols, n_matrices, n_correlations, diag, counts, corr, corr_counts)


def _read(data: FileBytes, entry: MomentsEntry) -> SecondMoments:
    return SecondMoments(
        _array(data, entry.diag, "<f4").reshape(entry.n_matrices, entry.n_cols),
        _array(data, entry.counts, "<f4"),
        _array(data, entry.correlations, "<f2").reshape(entry.n_correlations, -1),
        _array(data, entry.correlation_counts, "<f4"),
    )


def _array(data: FileBytes, tensor: TensorInfo, dtype: str) -> NDArray[Any]:
    return np.frombuffer(data[tensor.offset : tensor.offset + tensor.nbytes], dtype).copy()
