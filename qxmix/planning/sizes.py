"""Where the tensors of a plan go: file type, metadata, offsets, shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from qxmix.container.gguf_format import GENERAL_FILE_TYPE, MAX_U32
from qxmix.container.imatrix import Imatrix
from qxmix.container.layout import OutputFile, OutputTensor, kept_split, lay_out, split_by_size
from qxmix.container.model import MetadataField, ModelHeader
from qxmix.container.output_metadata import output_metadata
from qxmix.planning.metadata import edited
from qxmix.planning.model import PlannedTensor, Split
from qxmix.provenance import provenance
from qxmix.quants import ENGINES, QuantType
from qxmix.recipe.model import Recipe

if TYPE_CHECKING:
    from qxmix.container.moments import Moments


def file_type_of(recipe: Recipe, header: ModelHeader, nbytes: Mapping[QuantType, int], *, encodes: bool) -> int | None:
    """``general.file_type``: what the recipe says, else that of the type with the most bytes.

    None where the target knows no id for that type, or two targets disagree on it.  Where nothing is encoded the model
    stays what it says it is.

    Args:
        recipe: The recipe.
        header: The model.
        nbytes: Bytes that the tensors of each type have in the output.
        encodes: Whether any is encoded.

    """
    if not encodes:
        return _stated_file_type(header)
    if recipe.file_type is not None:
        return recipe.file_type
    if not nbytes:
        return None
    quant_type = min(nbytes, key=lambda t: (-nbytes[t], t.name))
    ids = {quant_type.ftype[ENGINES.index(engine)] for engine in recipe.engines}
    return ids.pop() if len(ids) == 1 else None


def nbytes_by_type(tensors: Iterable[PlannedTensor]) -> Counter[QuantType]:
    """Bytes that the tensors of each type have in the output."""
    nbytes: Counter[QuantType] = Counter()
    for tensor in tensors:
        if tensor.quant_type is not None:
            nbytes[tensor.quant_type] += tensor.nbytes
    return nbytes


def _stated_file_type(header: ModelHeader) -> int | None:
    """What the model's own field says; None where it is none or a number that is no id, which no engine could read."""
    stated = header.get(GENERAL_FILE_TYPE)
    if not isinstance(stated, int) or isinstance(stated, bool):
        return None
    return stated if 0 <= stated <= MAX_U32 else None


def place(
    recipe: Recipe,
    header: ModelHeader,
    imatrix: Imatrix | None,
    tensors: tuple[PlannedTensor, ...],
    file_type: int | None,
    split: Split,
    moments: Moments | None = None,
) -> tuple[tuple[PlannedTensor, ...], tuple[OutputFile, ...]]:
    """The tensors with their file and offset, and the files.

    Raises:
        PlanError: more shards than ``split.count`` can say.

    """
    used = imatrix if any(t.importance is not None for t in tensors) else None
    fed = moments if any(t.feedback is not None or t.second is not None for t in tensors) else None
    fields = fields_of(recipe, header, file_type, used, fed)
    outputs = [
        OutputTensor(t.name, t.source.shape, t.source.type_id if t.quant_type is None else t.quant_type.id, t.nbytes)
        for t in tensors
    ]
    shards: tuple[int, ...] | None = None
    n_shards: int | None = None
    if split.keep:
        shards, n_shards = kept_split(header)
    elif split.max_nbytes is not None or split.max_tensors is not None:
        # The files behind one without tensors are like those behind the first: without the model's metadata.
        filled = split_by_size(outputs, () if split.bare_first else fields, split.max_nbytes, split.max_tensors)
        shards = tuple(shard + split.bare_first for shard in filled)
    layout = lay_out(outputs, fields, shards, n_shards)
    placed = zip(tensors, layout.shards, layout.offsets, strict=True)
    return tuple(_at(t, shard, offset) for t, shard, offset in placed), layout.files


def fields_of(
    recipe: Recipe,
    header: ModelHeader,
    file_type: int | None,
    imatrix: Imatrix | None = None,
    moments: Moments | None = None,
) -> tuple[MetadataField, ...]:
    """The metadata of the output; the importance matrix and the moments are those that a tensor uses."""
    return output_metadata(
        edited(recipe, header).fields,
        file_type,
        imatrix,
        "llama.cpp" if recipe.target == "any" else recipe.target,
        provenance(recipe.text, recipe.sha256, imatrix, len(header.tensors), moments),
    )


def _at(t: PlannedTensor, shard: int, offset: int) -> PlannedTensor:
    """The tensor at its place; ``replace`` would take as long as all else that is done for it."""
    return PlannedTensor(
        t.source, t.quant_type, t.action, t.reason, t.requested, t.rule, t.importance, t.search, t.nbytes,
        shard, offset, t.feedback, t.kept, t.symmetric, t.scale, t.second,
    )  # fmt: skip
