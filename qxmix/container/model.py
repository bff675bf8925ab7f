"""The values that describe a model file.  Shapes are in GGUF order everywhere in qxmix: row length first."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from qxmix.quants import QuantType, by_id

if TYPE_CHECKING:
    from pathlib import Path

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class MetadataField:
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

    @property
    def quant_type(self) -> QuantType | None:
        """The type, or None for an id that neither engine writes."""
        return by_id(self.type_id)

    @property
    def type(self) -> str:
        """Upper-case name of the type; ``UNKNOWN_142`` for an id that neither engine writes."""
        known = by_id(self.type_id)
        return known.name if known else f"UNKNOWN_{self.type_id}"

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
        return next((f.value for f in self.metadata if f.key == key), None)

    @property
    def path(self) -> Path:
        """The first (or only) shard."""
        return self.paths[0]

    @property
    def architecture(self) -> str:
        """``general.architecture``, or an empty string."""
        value = self.get("general.architecture")
        return value if isinstance(value, str) else ""
