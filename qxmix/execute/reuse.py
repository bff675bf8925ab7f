"""Taking over tensors that would come out the same from an older output or from a cache folder.

A tensor's *key* is the SHA-256 of all that decides its bytes: the source's digest, shape and type, the importance, the
type it gets, the search and the encoder's version.  An output lists the keys and digests of its tensors in its
metadata; a cache folder has one file per tensor, named ``TYPE.KEY.DIGEST``.  What is taken over is hashed on the way,
so that a damaged copy is noticed and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from qxmix import provenance, quants, system
from qxmix.container.header import read_header
from qxmix.errors import ModelFileError, RunError
from qxmix.execute.output import file_errors
from qxmix.execute.result import TensorResult
from qxmix.plan import Plan, PlannedTensor
from qxmix.quants.codec import SEARCHES
from qxmix.quants.feedback.options import FACTORS_VERSION

_N_NAME_PARTS = 3


class Stored(NamedTuple):
    """A tensor's data somewhere on the disk."""

    path: Path
    offset: int
    """Bytes from the start of the file."""
    sha256: str
    """Digest over its leaves, in hex."""
    cached: bool = False
    """A file of its own in a cache folder, which is deleted when it turns out to be damaged."""


@dataclass(frozen=True, slots=True)
class Older:
    """What can be taken over."""

    by_key: Mapping[str, Stored] = field(default_factory=dict)
    kinds: frozenset[tuple[str, int]] = frozenset()
    """Types and sizes in bytes that occur: what is of another kind need not be hashed to be looked up."""


def tensor_key(plan: Plan, tensor: PlannedTensor, source_sha256: str) -> str:
    """What decides the bytes of a tensor, as a digest in hex."""
    facts: list[object] = [tensor.action, tensor.source_type, tensor.source.shape, source_sha256, tensor.type]
    if tensor.action == "encode":
        codec = quants.codec_of(tensor.type)
        facts += [codec.version, (tensor.search or SEARCHES[0]) if codec.searches else None]
        if tensor.counts_alike:
            facts.append("every column counts 1")
        if tensor.symmetric:
            facts.append("symmetric")
        if tensor.scale is not None:
            facts.append({"scale": tensor.scale})
        if tensor.importance is not None and plan.imatrix is not None:
            facts.append(hashlib.sha256(plan.imatrix.entries[tensor.importance].tobytes()).hexdigest())
        if tensor.feedback is not None and plan.moments is not None:
            options = {**tensor.feedback.options._asdict(), "factors": FACTORS_VERSION}
            facts += [options, plan.moments.digests[tensor.feedback.entry]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def output_order(plan: Plan) -> list[int]:
    """Indices of the plan's tensors in the order they have in the files, shard by shard."""
    return sorted(range(len(plan.tensors)), key=lambda i: (plan.tensors[i].shard, plan.tensors[i].offset, i))


def key_fields(plan: Plan, tensors: tuple[TensorResult, ...]) -> dict[str, str]:
    """Metadata by which a later apply finds these tensors, in the order they have in the output."""
    order = output_order(plan)
    keys = [tensor_key(plan, plan.tensors[i], tensors[i].source_sha256) for i in order]
    return {
        provenance.TENSOR_KEYS: "\n".join(keys),
        provenance.TENSOR_SHA256: "\n".join(tensors[i].sha256 for i in order),
    }


def in_output(path: Path) -> Older:
    """What an output of qxmix offers.

    Raises:
        ModelFileError: it is damaged, or nothing in it says how its tensors were made.

    """
    header = read_header(path)
    keys, sums = (str(header.get(k) or "").split() for k in (provenance.TENSOR_KEYS, provenance.TENSOR_SHA256))
    if not len(keys) == len(sums) == len(header.tensors):
        text = "does not say how its tensors were made (qxmix.* metadata), so none can be reused; leave out --reuse"
        raise ModelFileError.at(path, text)
    order = sorted(header.tensors, key=lambda t: (t.shard, t.offset))
    stored = {
        key: Stored(header.paths[t.shard], t.offset, digest) for t, key, digest in zip(order, keys, sums, strict=True)
    }
    return Older(stored, frozenset((t.type, t.nbytes) for t in header.tensors))


def in_folder(folder: Path) -> Older:
    """What a cache folder offers; nothing if it does not exist yet."""
    stored, kinds = {}, set()
    with file_errors(folder), contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            parts = entry.name.split(".")
            if len(parts) == _N_NAME_PARTS:
                type_name, key, digest = parts
                stored[key] = Stored(Path(entry.path), 0, digest, cached=True)
                kinds.add((type_name, entry.stat().st_size))
    return Older(stored, frozenset(kinds))


def merge(parts: Iterable[Older]) -> Older:
    """All of them as one; the first wins."""
    by_key: dict[str, Stored] = {}
    kinds: frozenset[tuple[str, int]] = frozenset()
    for part in parts:
        by_key = {**part.by_key, **by_key}
        kinds |= part.kinds
    return Older(by_key, kinds)


def store(plan: Plan, tensors: tuple[TensorResult, ...], outputs: tuple[Path, ...], folder: Path) -> None:
    """Put all encoded tensors into the cache folder that are not there whole yet.

    Raises:
        RunError: the folder cannot be written.

    """
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        present = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        for planned, made in zip(plan.tensors, tensors, strict=True):
            if planned.action == "copy":
                continue
            name = f"{planned.type}.{tensor_key(plan, planned, made.source_sha256)}.{made.sha256}"
            if present.get(name) != planned.nbytes:
                _copy(outputs[planned.shard], planned.offset, planned.nbytes, folder / name)


def _copy(source: Path, offset: int, nbytes: int, target: Path) -> None:
    # Two applies may fill one cache, on two machines even: each writes under a name of its own.
    partial = target.with_name(f"{target.name}.{uuid4().hex}.partial")
    try:
        with source.open("rb") as reader, partial.open("wb") as writer:
            reader.seek(offset)
            while nbytes:
                piece = reader.read(min(nbytes, 1 << 20))
                if not piece:
                    raise RunError.at(source, "ended while it was copied into the cache")
                writer.write(piece)
                nbytes -= len(piece)
        system.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
