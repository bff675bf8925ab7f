"""Models with the layers, heads and experts of real ones and small dimensions: the same decisions, hardly any data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.imatrix import Imatrix
from qxmix.container.layout import OutputTensor, lay_out
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.quants import get

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qxmix.container.model import MetadataField

Shape = tuple[int, ...]
Fact = int | float | bool | Sequence[int]


@dataclass(frozen=True)
class Model:
    """Names, shapes and the facts that mixes ask for."""

    arch: str
    facts: Mapping[str, Fact]
    """Metadata under the architecture's prefix."""
    shapes: Mapping[str, Shape]
    n_vocab: int = 320
    types: Mapping[str, str] = field(default_factory=dict)
    """Types of the tensors that are not F32 vectors and F16 matrices."""


def tensor_type(model: Model, name: str) -> str:
    return model.types.get(name, "F32" if len(model.shapes[name]) == 1 else "F16")


def metadata(model: Model) -> tuple[MetadataField, ...]:
    fields = [make_field("general.architecture", model.arch, ValueType.STRING)]
    for key, value in model.facts.items():
        fields.append(_field(f"{model.arch}.{key}", value))
    fields.append(make_field("tokenizer.ggml.model", "gpt2", ValueType.STRING))
    fields.append(make_field("tokenizer.ggml.pre", "llama-bpe", ValueType.STRING))
    tokens = [f"t{i}" for i in range(model.n_vocab)]
    fields.append(make_field("tokenizer.ggml.tokens", tokens, ValueType.ARRAY, ValueType.STRING))
    fields.append(make_field("tokenizer.ggml.token_type", [1] * model.n_vocab, ValueType.ARRAY, ValueType.INT32))
    fields.append(make_field("tokenizer.ggml.merges", ["t 0", "t 1"], ValueType.ARRAY, ValueType.STRING))
    fields += [make_field(f"tokenizer.ggml.{k}_token_id", i, ValueType.UINT32) for i, k in enumerate(("bos", "eos"))]
    return tuple(fields)


def _field(key: str, value: float | bool | Sequence[int]) -> MetadataField:
    if isinstance(value, bool):
        return make_field(key, value, ValueType.BOOL)
    if isinstance(value, int):
        return make_field(key, value, ValueType.UINT32)
    if isinstance(value, float):
        return make_field(key, value, ValueType.FLOAT32)
    return make_field(key, value, ValueType.ARRAY, ValueType.INT32)


def header(model: Model) -> ModelHeader:
    """The header, without a file."""
    tensors, offset = [], 0
    for name, shape in model.shapes.items():
        quant_type = get(tensor_type(model, name))
        nbytes = quant_type.nbytes(shape)
        tensors.append(TensorInfo(name, shape, quant_type.id, 0, offset, nbytes))
        offset += -(-nbytes // 32) * 32
    return ModelHeader((Path("model.gguf"),), (offset,), 32, metadata(model), tuple(tensors))


def imatrix(model: Model, *, every: bool = False) -> Imatrix:
    """Ones for every matrix, but the embeddings unless it is for ``every`` one."""
    entries = {
        name: np.ones(shape[0] * int(np.prod(shape[2:])), np.float32)
        for name, shape in model.shapes.items()
        if len(shape) > 1 and (every or "token_embd" not in name)
    }
    return Imatrix(Path("model.imatrix.dat"), "0" * 64, entries, (), 0)


def write(model: Model, path: Path) -> Path:
    """A file of the right size whose weights are a hole of zeros."""
    outputs = [
        OutputTensor(n, s, get(tensor_type(model, n)).id, get(tensor_type(model, n)).nbytes(s))
        for n, s in model.shapes.items()
    ]
    layout = lay_out(outputs, metadata(model))
    with path.open("wb") as file:
        file.write(layout.files[0].header)
        file.truncate(layout.files[0].nbytes)
    return path


def write_imatrix(model: Model, path: Path, *, every: bool = False) -> Path:
    """The importance matrix in the legacy format."""
    entries = imatrix(model, every=every).entries
    parts = [np.int32(len(entries)).tobytes()]
    for name, values in entries.items():
        data = name.encode()
        parts += [np.int32(len(data)).tobytes(), data, np.int32(1).tobytes(), np.int32(len(values)).tobytes()]
        parts.append(values.tobytes())
    path.write_bytes(b"".join(parts))
    return path


def facts(n_layer: int, n_embd: int, n_head: int, n_head_kv: int, **more: float | Sequence[int]) -> dict[str, Fact]:
    common: dict[str, Fact] = {
        "block_count": n_layer,
        "context_length": 4096,
        "embedding_length": n_embd,
        "feed_forward_length": 512,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.dimension_count": 32,
        "rope.freq_base": 10000.0,
    }
    return common | {key.replace("__", "."): value for key, value in more.items()}
