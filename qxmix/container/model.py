"""The values that describe a model file.  Shapes are in GGUF order everywhere in qxmix: row length first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

from qxmix.container.gguf_format import ARRAY_HEAD, INTEGERS, SCALARS, U32, U64
from qxmix.quants import QuantType, by_id

Scalar = int | float | bool | str


class MetadataField(NamedTuple):
    """One key of the metadata block, carried as the bytes it has in the file."""

    key: str
    value_type: int
    """GGUF's id of the value's type: 8 is a string, 9 an array."""
    raw: bytes
    """The whole field as it stands in the file: key, value type, value."""
    value: Scalar | None
    """The value of a scalar or string; None for an array, whose payload nobody here needs decoded."""
    array: tuple[int, int] | None = None
    """Element type and count of an array, else None."""

    @property
    def elements_at(self) -> int:
        """Where the elements of an array start in ``raw``."""
        # key length u64 | key | value type u32 | element type u32 | count u64 | elements
        return U64.size + len(self.key.encode()) + U32.size + ARRAY_HEAD.size

    @property
    def first_integer(self) -> int | None:
        """The value, or the first of an array, where that is an integer."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        if self.array is None or self.array[0] not in INTEGERS or self.array[1] == 0:
            return None
        found: int = SCALARS[self.array[0]].unpack_from(self.raw, self.elements_at)[0]
        return found


def field_of(metadata: Sequence[MetadataField], key: str) -> MetadataField | None:
    """The field under ``key``, or None."""
    return next((f for f in metadata if f.key == key), None)


def value_of(metadata: Sequence[MetadataField], key: str) -> Scalar | None:
    """The scalar or string under ``key``; None where it is missing or an array."""
    found = field_of(metadata, key)
    return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a model file."""

    name: str
    shape: tuple[int, ...]
    """Weights per dimension, row length first, trailing ones dropped (but never the first dimension)."""
    type_id: int
    """Tensor type id as it stands in the file; an id that qxmix does not know is opaque and can only be copied."""
    shard: int
    """Index into ``ModelHeader.paths``."""
    offset: int
    """Where the data start, in bytes from the start of the shard."""
    nbytes: int
    """Bytes of data, padding not counted; for an unknown type up to the next tensor or the end of the file."""
    quant_type: QuantType | None = field(init=False, repr=False, compare=False)
    """The type, or None for an id that neither engine writes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quant_type", by_id(self.type_id))

    @property
    def type(self) -> str:
        """Upper-case name of the type; ``UNKNOWN_142`` for an id that neither engine writes."""
        return self.quant_type.name if self.quant_type is not None else f"UNKNOWN_{self.type_id}"

    @property
    def n_cols(self) -> int:
        """Weights in a row."""
        return self.shape[0]

    @property
    def n_rows(self) -> int:
        """Rows of one matrix."""
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def n_matrices(self) -> int:
        """Matrices that are stacked in the tensor: experts, or heads."""
        return prod(self.shape[2:])

    @property
    def n_weights(self) -> int:
        """All weights."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """Everything in a model file but the weights."""

    paths: tuple[Path, ...]
    """The shards in order; one path for a model in one file."""
    file_nbytes: tuple[int, ...]
    """Size of each shard, in bytes."""
    alignment: int
    """What tensor data are aligned to, in bytes (``general.alignment``, default 32)."""
    metadata: tuple[MetadataField, ...]
    """Metadata of the first shard, in file order."""
    tensors: tuple[TensorInfo, ...]
    """All tensors, shard by shard, each shard in file order."""
    weights: Literal["here", "absent", "remote"] = "here"
    """Whether the files hold the weights: a header file has none, those of a remote model are not read."""

    def get(self, key: str) -> Scalar | None:
        """The scalar or string under ``key``; None where it is missing or an array."""
        return value_of(self.metadata, key)

    def integer(self, key: str) -> int | None:
        """The integer under ``key``, or the first of an array of them; None where there is none."""
        found = field_of(self.metadata, key)
        return None if found is None else found.first_integer

    def count(self, key: str) -> int | None:
        """How many elements the array under ``key`` has; None where it is missing or no array."""
        found = field_of(self.metadata, key)
        return found.array[1] if found is not None and found.array is not None else None

    @property
    def path(self) -> Path:
        """The first (or only) shard."""
        return self.paths[0]

    @property
    def architecture(self) -> str:
        """``general.architecture``, or an empty string."""
        value = self.get("general.architecture")
        return value if isinstance(value, str) else ""
