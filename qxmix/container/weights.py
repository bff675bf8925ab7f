"""Refusing models whose weights are not here, where a command must read them."""

from __future__ import annotations

from qxmix.container.model import ModelHeader
from qxmix.container.source import bad_file


def require_weights(header: ModelHeader) -> None:
    """Let pass a model whose weights can be read.

    Raises:
        ModelFileError: it is a header file, or a remote model.

    """
    if header.weights == "absent":
        told = "holds the header of a model and none of its weights, enough to plan; give the model itself here"
        raise bad_file(header.path, told)
    if header.weights == "remote":
        told = "is on another machine, and only its header is read from there; download the model and give the file"
        raise bad_file(header.path, told)
