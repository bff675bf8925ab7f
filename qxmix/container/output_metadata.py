"""The metadata of an output: which fields quantizing changes, and what it notes of the importance matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import (
    DEFAULT_ALIGNMENT,
    GENERAL_ALIGNMENT,
    GENERAL_FILE_TYPE,
    GENERAL_QUANTIZATION_VERSION,
    MAX_I32,
    MAX_IMATRIX_STRING_NBYTES,
    QUANTIZATION_VERSION,
    QUANTIZE_IMATRIX_CHUNKS_COUNT,
    QUANTIZE_IMATRIX_DATASET,
    QUANTIZE_IMATRIX_ENTRIES_COUNT,
    QUANTIZE_IMATRIX_FILE,
    ValueType,
)
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import MetadataField, value_of
from qxmix.quants import Engine

_DERIVED_PREFIXES = ("split.", "quantize.imatrix.", "qxmix.")
"""Keys that describe the making of the file they stand in: never carried over, only written anew."""


def output_metadata(
    metadata: Sequence[MetadataField],
    file_type: int | None,
    imatrix: Imatrix | None = None,
    engine: Engine = "llama.cpp",
    provenance: Mapping[str, str] | None = None,
) -> tuple[MetadataField, ...]:
    """The metadata of the output: the input's fields in order as they are, but for those that quantizing changes.

    A changed key keeps its place, a new one goes to the end.

    Args:
        metadata: The fields of the model (of its first shard).
        file_type: ``general.file_type``; None drops the key.
        imatrix: The importance matrix that was used, described under ``quantize.imatrix.*``; None drops those keys.
        engine: Whose integer types these keys have: u32 for llama.cpp, i32 for ik_llama.cpp.
        provenance: Further string fields, such as ``qxmix.recipe``.

    Returns:
        The fields; ``split.*`` and stale ``quantize.imatrix.*`` and ``qxmix.*`` are gone.  An alignment of less than 32
        becomes 32: such a file is legal, but both engines abort on it when they map it.

    """
    made = [make_field(GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION, ValueType.UINT32)]
    if file_type is not None:
        made.append(make_field(GENERAL_FILE_TYPE, file_type, ValueType.UINT32))
    if imatrix is not None:
        made += _imatrix_fields(imatrix, ValueType.INT32 if engine == "ik_llama.cpp" else ValueType.UINT32)
    made += [make_field(key, value, ValueType.STRING) for key, value in (provenance or {}).items()]
    stated = value_of(metadata, GENERAL_ALIGNMENT)
    if isinstance(stated, int):
        # The engines read a u32 and nothing else.
        made.append(make_field(GENERAL_ALIGNMENT, max(stated, DEFAULT_ALIGNMENT), ValueType.UINT32))
    changes = {f.key: f for f in made}
    kept = []
    for field in metadata:
        if field.key in changes:
            kept.append(changes.pop(field.key))
        elif field.key != GENERAL_FILE_TYPE and not field.key.startswith(_DERIVED_PREFIXES):
            kept.append(field)
    return (*kept, *changes.values())


def _imatrix_fields(imatrix: Imatrix, integer: ValueType) -> list[MetadataField]:
    """What both engines note of the matrix; the base name only, so that folders do not change the output."""
    fields = [make_field(QUANTIZE_IMATRIX_FILE, _cut(imatrix.path.name), ValueType.STRING)]
    if imatrix.datasets:
        fields.append(make_field(QUANTIZE_IMATRIX_DATASET, _cut(imatrix.datasets[0]), ValueType.STRING))
    fields.append(make_field(QUANTIZE_IMATRIX_ENTRIES_COUNT, len(imatrix.entries), integer))
    if 0 < imatrix.n_chunks <= MAX_I32:  # what both engines' types hold
        fields.append(make_field(QUANTIZE_IMATRIX_CHUNKS_COUNT, imatrix.n_chunks, integer))
    return fields


def _cut(text: str) -> str:
    """At most 127 bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:MAX_IMATRIX_STRING_NBYTES].decode("utf-8", "ignore")
