"""Whether what a file says of its making is about this file: tools carry metadata over into files of their own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator

from qxmix import provenance
from qxmix.container.model import MetadataField, ModelHeader, TensorInfo
from qxmix.container.parse import parse_start
from qxmix.container.source import Given
from qxmix.errors import ModelFileError, Problem
from qxmix.execute import digests
from qxmix.execute.task import Task
from qxmix.execute.work import run_task
from qxmix.plan import Plan

_DIGEST = re.compile("[0-9a-f]{64}")
_FLOATS = {"F32", "F16", "BF16", "F64"}
_LATE = {provenance.SOURCE_SHA256, provenance.DATA_SHA256, provenance.TENSOR_SHA256, provenance.TENSOR_KEYS}
"""What is known only when all is written, and compared with the data."""
_NOT_PLANNED = (provenance.VERSION, "split.")
_FEW = 2


def written_digests(header: ModelHeader) -> dict[str, str]:
    """Name to digest, as the output carries them, in the order of the model.

    Raises:
        ModelFileError: it carries none, or they are no digests of its tensors.

    """
    found = header.get(provenance.TENSOR_SHA256)
    if all(field.key != provenance.TENSOR_SHA256 for field in header.metadata):
        raise ModelFileError.at(header.path, "carries no digests; it was not written by `qxmix apply`")
    sums = found.split() if isinstance(found, str) else []
    if not isinstance(found, str) or not all(map(_DIGEST.fullmatch, sums)):
        text = f"{provenance.TENSOR_SHA256} is no list of SHA-256 in hex; the file is damaged, copy it again"
        raise ModelFileError.at(header.path, text)
    if len(sums) != len(header.tensors):
        text = f"carries digests of {len(sums):,} tensors and has {len(header.tensors):,}"
        raise ModelFileError.at(header.path, f"{text}; {_ANOTHER}")
    return {t.name: digest for t, digest in zip(header.tensors, sums, strict=True)}


_ANOTHER = "another tool wrote it and carried them over, so they say nothing about it"


def told_of_another_file(header: ModelHeader, damaged: Iterable[str]) -> Problem | None:
    """The one problem of a file whose quantized tensors are all others than it says; None for any other file."""
    encoded = {t.name for t in header.tensors if t.type not in _FLOATS}
    if len(encoded) < _FEW or not encoded <= set(damaged):
        return None
    text = f"none of its {len(encoded):,} quantized tensors is what its qxmix.* metadata say; {_ANOTHER}"
    return Problem(str(header.path), text)


def refuse_carried_over(header: ModelHeader) -> None:
    """Let pass a file whose metadata are about it, as far as its smallest quantized tensor tells.

    Raises:
        ModelFileError: that tensor holds other data than the metadata say.

    """
    expected = written_digests(header)
    order = sorted(header.tensors, key=lambda t: (t.type in _FLOATS, t.nbytes, t.name))
    for tensor in order[:1] if header.weights == "here" else ():
        index = next(i for i, t in enumerate(header.tensors) if t is tensor)
        parts = [run_task(task).digest for task in tensor_tasks(header, index, uuid.uuid4().hex)]
        if digests.combine(parts).hex() != expected[tensor.name]:
            text = f"{tensor.name} is not what its qxmix.* metadata say; {_ANOTHER}, or it is damaged"
            raise ModelFileError.at(header.path, text)


def tensor_tasks(header: ModelHeader, index: int, run: str) -> Iterator[Task]:
    """Tasks that hash the leaves of one tensor, in order."""
    tensor: TensorInfo = header.tensors[index]
    for k, leaf in enumerate(digests.leaves(tensor, tensor.nbytes)):
        yield Task(
            tensor=index,
            leaf=k,
            name=tensor.name,
            action="hash",
            source=str(header.paths[tensor.shard].absolute()),
            source_offset=tensor.offset + leaf.offset,
            source_nbytes=leaf.nbytes,
            model_nbytes=leaf.nbytes,
            run=run,
        )


def other_metadata(header: ModelHeader, plan: Plan) -> Iterator[Problem]:
    """What in an output's metadata is not as the plan has it; its own digests and how it is split aside."""
    first = plan.files[0]
    planned = _comparable(parse_start(Given(header.path), first.header, first.nbytes).metadata)
    there = _comparable(header.metadata)
    for key in {**planned, **there}:
        if planned.get(key) != there.get(key):
            has = "has another value" if key in there else "is not there"
            has = has if key in planned else "is not planned"
            yield Problem(key, f"{has}: the recipe makes other metadata of this model than the output has")


def _comparable(metadata: Iterable[MetadataField]) -> dict[str, bytes]:
    return {f.key: f.raw for f in metadata if f.key not in _LATE and not f.key.startswith(_NOT_PLANNED)}
