"""What an output says of its own making, under ``qxmix.*``: the same for every run of the same job.

Digests are known only when all tensors are written, so the planned header holds zeros of the same length in their
place, and :func:`fill` puts them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import qxmix
from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.imatrix import Imatrix

if TYPE_CHECKING:
    from qxmix.container.moments import Moments

RECIPE = "qxmix.recipe"
RECIPE_SHA256 = "qxmix.recipe.sha256"
IMATRIX_FILE = "qxmix.imatrix.file"
IMATRIX_SHA256 = "qxmix.imatrix.sha256"
MOMENTS_SHA256 = "qxmix.moments.sha256"
SOURCE_SHA256 = "qxmix.source.sha256"
DATA_SHA256 = "qxmix.data.sha256"
TENSOR_SHA256 = "qxmix.tensor.sha256"
TENSOR_KEYS = "qxmix.tensor.keys"
VERSION = "qxmix.version"
MODEL_SHA256 = "qxmix.model.sha256"
"""Of the header of the model that a matrix or moments were measured on, in hex ..."""
TEXT_SHA256 = "qxmix.text.sha256"
"""... of the text that was run, without a last newline ..."""
CHUNKS = "qxmix.chunks"
"""... which chunks of it ..."""
OUTPUT_MATRIX = "qxmix.output_matrix"
"""... and whether the output matrix has an entry."""

_UNKNOWN = "0" * 64


def provenance(
    recipe_text: str,
    recipe_sha256: str,
    imatrix: Imatrix | None,
    n_tensors: int,
    moments: Moments | None = None,
) -> dict[str, str]:
    """The string fields of the output's metadata.

    Args:
        recipe_text: The recipe as one YAML document, with what it extends.
        recipe_sha256: Of the recipe, in hex.
        imatrix: The importance matrix used; only its base name is noted, so that folders do not change the output.
        n_tensors: Tensors of the output, each with a digest and a key by which a later apply can take it over.
        moments: The second moments used, or None.

    """
    fields = {VERSION: qxmix.__version__, RECIPE: recipe_text, RECIPE_SHA256: recipe_sha256}
    if imatrix is not None:
        # A name may be bytes that are no UTF-8, which metadata must be.
        name = imatrix.path.name.encode("utf-8", "replace").decode()
        fields |= {IMATRIX_FILE: name, IMATRIX_SHA256: imatrix.sha256}
    if moments is not None:
        fields[MOMENTS_SHA256] = moments.sha256
    per_tensor = "\n".join([_UNKNOWN] * n_tensors)
    blank = {SOURCE_SHA256: _UNKNOWN, DATA_SHA256: _UNKNOWN, TENSOR_SHA256: per_tensor, TENSOR_KEYS: per_tensor}
    return fields | blank


def fill(header: bytes, values: Mapping[str, str]) -> bytes:
    """The planned header with these values in place of the zeros; unchanged where it has no such keys."""
    for key, value in values.items():
        blank = "\n".join([_UNKNOWN] * (value.count("\n") + 1)) if value else ""
        old, new = (make_field(key, text, ValueType.STRING).raw for text in (blank, value))
        header = header.replace(old, new, 1)
    return header
