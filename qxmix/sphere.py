"""How well a scale search does in every direction: the pictures of llama.cpp's PR 12557 and ik_llama.cpp's PR 295.

A block of three weights has a direction on the sphere, and its length does not matter to a search.  So a picture of the
sphere shows all blocks there are: each pixel is the cosine between a direction and what the search makes of it.  Sharp
edges in it are better codes that the search missed.  After the scripts of compilade/rounding-experiments: theta goes
across from 0 to two pi, the end left out, phi goes down from 0 to pi, the end included; weights are all 1; the scale
stays a float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qxmix import quants
from qxmix.quants.codec import SEARCHES, BlockSearch, Search
from qxmix.quants.common.lanes import LANES


@dataclass(frozen=True, slots=True, repr=False)
class Sphere:
    """The picture of one search."""

    type: str
    search: Search
    cosines: NDArray[np.float64]
    """(width / 2, width) cosine between each direction and its quantized self; north pole first."""

    @property
    def least(self) -> float:
        """The worst direction's cosine."""
        return float(self.cosines.min())

    @property
    def mean(self) -> float:
        """Mean over the pixels, as others print it: not by area, so the poles count for more."""
        return float(self.cosines.mean())

    @property
    def most(self) -> float:
        """The best direction's cosine."""
        return float(self.cosines.max())


def sphere(type_name: str, search: Search, width: int) -> Sphere:
    """Run ``search`` of a type on ``width * width // 2`` directions.

    Args:
        type_name: a type that searches a scale, any case.
        search: one of ``SEARCHES``.
        width: pixels across, even.

    Raises:
        ValueError: no such type, or one that searches no scale of a single block.

    """
    quant_type = quants.find(type_name)
    block_search = quants.codec_of(quant_type.name).search_block if quant_type and quant_type.codec else None
    if quant_type is None or block_search is None:
        raise ValueError(f"{type_name} has no search of a single block; {', '.join(pictured_types())} have one")
    return Sphere(quant_type.name, search, _cosines(block_search, SEARCHES.index(search), directions(width)))


def pictured_types() -> list[str]:
    """Names of the types with a search of a single block; interleaved forms share those of their plain types."""
    return [t.name for t in quants.QUANT_TYPES if t.searches and quants.codec_of(t.name).search_block is not None]


def directions(width: int) -> NDArray[np.float32]:
    """(width / 2, width, 3) unit vectors ``[sin phi cos theta, sin phi sin theta, cos phi]``."""
    theta = np.linspace(0, 2 * np.pi, width, endpoint=False)
    phi = np.linspace(0, np.pi, width // 2)[:, None]
    axes = (np.sin(phi) * np.cos(theta), np.sin(phi) * np.sin(theta), np.broadcast_to(np.cos(phi), (width // 2, width)))
    return np.stack(axes, axis=-1).astype(np.float32)


def _cosines(search_block: BlockSearch, search: int, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(height, width) cosines between ``vectors`` (height, width, 3) and what the search makes of them."""
    flat = vectors.reshape(-1, 3)
    n_blocks = -(-len(flat) // LANES)
    padded = np.zeros((n_blocks * LANES, 3), np.float32)
    padded[: len(flat)] = flat
    blocks = np.ascontiguousarray(padded.reshape(n_blocks, LANES, 3).transpose(0, 2, 1))
    levels, scale, weights = np.empty_like(blocks), np.empty(LANES, np.float32), np.ones((3, LANES), np.float32)
    for x, found in zip(blocks, levels, strict=True):
        search_block(x, weights, search, scale, found)
        np.multiply(found, scale, out=found)
    made = levels.transpose(0, 2, 1).reshape(-1, 3)[: len(flat)].astype(np.float64)
    given = flat.astype(np.float64)
    lengths = np.sqrt((made * made).sum(axis=1) * (given * given).sum(axis=1))
    # What became nothing points nowhere.
    cosines = np.zeros(len(flat))
    np.divide((made * given).sum(axis=1), lengths, out=cosines, where=lengths > 0)
    return cosines.reshape(vectors.shape[:2])
