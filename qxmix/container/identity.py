"""By what a model is told from another without reading its weights."""

from __future__ import annotations

import hashlib

from qxmix.container import header_only
from qxmix.container.model import ModelHeader


def header_sha256(header: ModelHeader) -> str:
    """Hash of everything in a model but its weights: metadata, and name, shape and type of each tensor, in order."""
    digest = hashlib.sha256()
    for field in header.metadata:
        if field.key != header_only.KEY:
            digest.update(field.raw)
    for tensor in header.tensors:
        digest.update(f"{tensor.name}\0{tensor.shape}\0{tensor.type_id}\n".encode())
    return digest.hexdigest()
