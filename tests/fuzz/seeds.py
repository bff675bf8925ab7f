"""Right files of each kind, as pieces, so that a mutator can aim at counts, lengths, ids and offsets."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qxmix.container.gguf_format import SCALARS
from qxmix.quants import QUANT_TYPES

if TYPE_CHECKING:
    from random import Random

Piece = tuple[str, bytes]
"""What it is (``u64``, ``u32``, ``u16``, ``f32`` or ``raw``), and its bytes."""

_KEYS: tuple[str, ...] = (
    "general.name",
    "general.file_type",
    "llama.block_count",
    "tokenizer.ggml.tokens",
    "qxmix.recipe",
)
_KEYS += ("llama.attention.head_count", "llama.attention.head_count_kv", "llama.expert_count", "llama.vocab_size")
_KEYS += ("llama.embedding_length", "x")
_ROLES = ("attn_v", "attn_k", "ffn_down", "ffn_up_exps", "attn_norm", "x")
_IMATRIX_KEYS = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")


def u64(value: int) -> Piece:
    return "u64", struct.pack("<Q", value)


def u16(value: int) -> Piece:
    return "u16", struct.pack("<H", value)


def u32(value: int) -> Piece:
    return "u32", struct.pack("<I", value)


def text(value: str | bytes) -> list[Piece]:
    data = value.encode() if isinstance(value, str) else value
    return [u64(len(data)), ("raw", data)]


def header_pieces(rng: Random) -> list[Piece]:
    """A GGUF model: some metadata of every type, tensors of any type, and their data; one in three is a shard."""
    fields = [[*text("general.architecture"), u32(8), *text("llama")]]
    fields += [field_pieces(rng, key) for key in rng.sample(_KEYS, rng.randrange(6))]
    alignment = rng.choice((32, 32, 8, 64, 256))
    if alignment != 32 or rng.random() < 0.2:
        fields.append([*text("general.alignment"), u32(4), u32(alignment)])
    n_tensors = rng.randrange(5)
    if rng.random() < 0.3:
        fields += [
            [*text("split.no"), u32(2), u16(0)],
            [*text("split.count"), u32(2), u16(2)],
            [*text("split.tensors.count"), u32(5), u32(n_tensors + 1)],
        ]
    tensors, end = [], 0
    for i in range(n_tensors):
        quant_type = rng.choice(QUANT_TYPES)
        shape = (quant_type.block_size * rng.randrange(1, 3), *(rng.randrange(1, 5) for _ in range(rng.randrange(4))))
        tensors.append([*text(f"blk.{i}.{rng.choice(_ROLES)}.weight"), *dims(shape), u32(quant_type.id), u64(end)])
        end += -(-quant_type.nbytes(shape) // alignment) * alignment
    return assemble(fields, tensors, bytes(end), alignment)


def imatrix_pieces(rng: Random) -> list[Piece]:
    """A GGUF importance matrix."""
    fields = [[*text("general.type"), u32(8), *text("imatrix")]]
    for key in _IMATRIX_KEYS:
        is_array = key == "imatrix.datasets"
        datasets = [u32(9), u32(8), u64(2), *text("a.txt"), *text("b")]
        fields.append([*text(key), *(datasets if is_array else [u32(4), u32(rng.randrange(99))])])
    tensors, data = [], b""
    for i in range(rng.randrange(1, 4)):
        n_cols, n_matrices = rng.randrange(1, 9), rng.randrange(1, 4)
        for suffix, shape in ((".in_sum2", (n_cols, n_matrices)), (".counts", (1, n_matrices))):
            tensors.append([*text(f"blk.{i}{suffix}"), *dims(shape), u32(0), u64(len(data))])
            values = struct.pack(f"<{shape[0] * shape[1]}f", *(rng.randrange(9) for _ in range(shape[0] * shape[1])))
            data += values + bytes(-len(values) % 32)
    return assemble(fields, tensors, data, 32)


def dat_pieces(rng: Random) -> list[Piece]:
    """A legacy importance matrix."""
    n_entries = rng.randrange(1, 5)
    pieces = [u32(n_entries)]
    for i in range(n_entries):
        name = f"blk.{i}.attn_{rng.choice('qkvo')}.weight".encode()
        values = [rng.random() * 100 for _ in range(rng.randrange(1, 9))]
        pieces += [u32(len(name)), ("raw", name), u32(rng.randrange(9)), u32(len(values))]
        pieces += [("f32", struct.pack("<f", v)) for v in values]
    if rng.random() < 0.7:
        pieces += [u32(60), u32(9), ("raw", b"calib.txt")]
    return pieces


def field_pieces(rng: Random, key: str) -> list[Piece]:
    kind = rng.randrange(13)
    return [*text(key), u32(kind), *value_pieces(rng, kind, 0)]


def value_pieces(rng: Random, kind: int, depth: int) -> list[Piece]:
    if kind == 8:
        return text("é" * rng.randrange(20))
    if kind == 9:
        element = rng.choice([k for k in range(13) if depth < 2 or k != 9])
        count = rng.randrange(5)
        elements = [p for _ in range(count) for p in value_pieces(rng, element, depth + 1)]
        return [u32(element), u64(count), *elements]
    size = SCALARS[kind].size
    data = (rng.choice((0, 1, 8, 32, 64)) % 256).to_bytes(1, "little") + bytes(size - 1)
    return [({4: "u32", 8: "u64"}.get(size, "raw"), data)]


def dims(shape: tuple[int, ...]) -> list[Piece]:
    return [u32(len(shape)), *map(u64, shape)]


def assemble(fields: list[list[Piece]], tensors: list[list[Piece]], data: bytes, alignment: int) -> list[Piece]:
    pieces = [("raw", b"GGUF"), u32(3), u64(len(tensors)), u64(len(fields))]
    pieces += [p for part in (*fields, *tensors) for p in part]
    size = sum(len(p[1]) for p in pieces)
    return [*pieces, ("raw", bytes(-size % alignment)), ("raw", data)]
