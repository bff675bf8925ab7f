"""GGUF files and legacy importance matrices put together with struct.pack, right ones and wrong ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

U8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 2, 4, 5, 6, 7, 8, 9, 10


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def field(key: str | bytes, value_type: int, payload: bytes) -> bytes:
    return string(key) + struct.pack("<I", value_type) + payload


def text_field(key: str, value: str | bytes) -> bytes:
    return field(key, STRING, string(value))


def u32_field(key: str, value: int) -> bytes:
    return field(key, U32, struct.pack("<I", value))


def array(element_type: int, count: int, elements: bytes) -> bytes:
    return struct.pack("<IQ", element_type, count) + elements


def strings_field(key: str, values: Sequence[str]) -> bytes:
    return field(key, ARRAY, array(STRING, len(values), b"".join(map(string, values))))


def tensor(name: str | bytes, dims: Sequence[int], type_id: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_id, offset)


def gguf(
    fields: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    n_fields: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A file of exactly these parts; the counts can lie."""
    counts = (len(tensors) if n_tensors is None else n_tensors, len(fields) if n_fields is None else n_fields)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(fields) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def small_model(*, split: tuple[int, int, int] | None = None, names: Sequence[str] = ("a.weight",)) -> bytes:
    """A model of F32 tensors of 8 weights; ``split`` is split.no, split.count, split.tensors.count."""
    fields = [text_field("general.architecture", "llama")]
    if split:
        fields += [
            field("split.no", U16, struct.pack("<H", split[0])),
            field("split.count", U16, struct.pack("<H", split[1])),
            field("split.tensors.count", I32, struct.pack("<i", split[2])),
        ]
    table = [tensor(name, (8,), 0, 32 * i) for i, name in enumerate(names)]
    return gguf(fields, table, bytes(32 * len(names)))


def dat_entry(name: str | bytes, values: Sequence[float], n_calls: int = 1, n_values: int | None = None) -> bytes:
    data = name.encode() if isinstance(name, str) else name
    n = len(values) if n_values is None else n_values
    return struct.pack("<i", len(data)) + data + struct.pack(f"<ii{len(values)}f", n_calls, n, *values)


def dat(entries: Sequence[bytes], trailer: bytes = b"", n_entries: int | None = None) -> bytes:
    return struct.pack("<i", len(entries) if n_entries is None else n_entries) + b"".join(entries) + trailer


def dat_trailer(n_chunks: int, dataset: str) -> bytes:
    return struct.pack("<ii", n_chunks, len(dataset.encode())) + dataset.encode()


def imatrix_gguf(tensors: Sequence[bytes], data: bytes, leave_out: str = "", extra: Sequence[bytes] = ()) -> bytes:
    fields = {
        "general.type": text_field("general.type", "imatrix"),
        "imatrix.datasets": strings_field("imatrix.datasets", ["calib.txt", "more.txt"]),
        "imatrix.chunk_count": u32_field("imatrix.chunk_count", 12),
        "imatrix.chunk_size": u32_field("imatrix.chunk_size", 512),
    }
    return gguf([f for key, f in fields.items() if key != leave_out] + list(extra), tensors, data)
