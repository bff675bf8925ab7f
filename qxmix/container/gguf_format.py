"""What a GGUF file is made of: magic, versions, value types and the keys that qxmix reads or writes.

::

    file   = "GGUF" | version u32 | n_tensors u64 | n_fields u64 | field... | tensor... | padding | tensor data
    field  = key string | value type u32 | value
    tensor = name string | n_dims u32 | dim u64 ... | type u32 | offset u64, counted from the first tensor's data
    string = n_bytes u64 | UTF-8 bytes, no NUL
    array  = element type u32 | n_elements u64 | elements

Everything is little-endian; each tensor's data start at a multiple of ``general.alignment``.  Source: the GGUF
specification of ggml (docs/gguf.md).  The constants are held equal to the ``gguf`` package's by a test; importing that
package costs 0.17 s, which a plan cannot afford.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

MAGIC: Final = b"GGUF"
VERSION: Final = 3
"""The version qxmix writes; version 2 has the same layout and is read, too."""
READABLE_VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32
MIN_ALIGNMENT: Final = 8
MAX_ALIGNMENT: Final = 1 << 20
MAX_DIMS: Final = 4
MAX_ARRAY_DEPTH: Final = 4
"""Arrays inside arrays; the specification sets no limit, no engine reads even the second level."""
MAX_IMATRIX_STRING_NBYTES: Final = 127
"""llama.cpp keeps these strings in a fixed field; longer ones cannot be read back."""
QUANTIZATION_VERSION: Final = 2
MAX_I32: Final = (1 << 31) - 1
MAX_U32: Final = (1 << 32) - 1
MAX_FILE_NBYTES: Final = (1 << 63) - 1
"""What the systems' own offsets can say."""


class ValueType(IntEnum):
    """Ids of metadata value types."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


U32: Final = Struct("<I")
U64: Final = Struct("<Q")
ARRAY_HEAD: Final = Struct("<IQ")
FILE_HEAD: Final = Struct("<4sIQQ")

SCALARS: Final[dict[int, Struct]] = {
    ValueType.UINT8: Struct("<B"),
    ValueType.INT8: Struct("<b"),
    ValueType.UINT16: Struct("<H"),
    ValueType.INT16: Struct("<h"),
    ValueType.UINT32: U32,
    ValueType.INT32: Struct("<i"),
    ValueType.FLOAT32: Struct("<f"),
    ValueType.BOOL: Struct("<?"),
    ValueType.UINT64: U64,
    ValueType.INT64: Struct("<q"),
    ValueType.FLOAT64: Struct("<d"),
}

INTEGERS: Final = frozenset(kind for kind, struct in SCALARS.items() if struct.format[-1] in "bBhHiIqQ")
"""Value types that hold whole numbers."""

GENERAL_TYPE: Final = "general.type"
GENERAL_ALIGNMENT: Final = "general.alignment"
GENERAL_QUANTIZATION_VERSION: Final = "general.quantization_version"
GENERAL_FILE_TYPE: Final = "general.file_type"
SPLIT_NO: Final = "split.no"
SPLIT_COUNT: Final = "split.count"
SPLIT_TENSORS_COUNT: Final = "split.tensors.count"
IMATRIX_DATASETS: Final = "imatrix.datasets"
IMATRIX_CHUNK_COUNT: Final = "imatrix.chunk_count"
IMATRIX_CHUNK_SIZE: Final = "imatrix.chunk_size"
QUANTIZE_IMATRIX_FILE: Final = "quantize.imatrix.file"
QUANTIZE_IMATRIX_DATASET: Final = "quantize.imatrix.dataset"
QUANTIZE_IMATRIX_ENTRIES_COUNT: Final = "quantize.imatrix.entries_count"
QUANTIZE_IMATRIX_CHUNKS_COUNT: Final = "quantize.imatrix.chunks_count"


def pad(nbytes: int, alignment: int) -> int:
    """``nbytes`` rounded up to a multiple of ``alignment``."""
    return -(-nbytes // alignment) * alignment
