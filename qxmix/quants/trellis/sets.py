"""The code vectors of a type: one codebook, or two of which each block takes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.trellis.rows import inverse_of
from qxmix.quants.trellis.search import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.trellis.codebook import Codebook

    Floats = NDArray[np.float32]
    Indices = NDArray[np.int32]

_0 = np.float32(0.0)


@dataclass(frozen=True, slots=True)
class Sets:
    """Codebooks of vectors of one size; indices run through all of them."""

    books: tuple[Codebook, ...]
    values: Floats
    """(n_values, n) the code vectors of all."""
    magnitudes: bool
    """Whether the code vectors are magnitudes, with signs apart."""

    def which(self, found: Indices) -> Indices:
        """Of which codebook indices are."""
        return found // np.int32(len(self.books[0].values))

    def nearest(self, which: Indices, x: Floats, w: Floats, steps: Floats) -> Indices:
        """Indices (n_blocks, groups of a block, n_trials) of the code vectors nearest to each block.

        Args:
            which: (n_blocks,) the codebook of each.
            x: (n_blocks, weights of a block) weights or magnitudes.
            w: The same shape: what their errors weigh.
            steps: (n_blocks, n_trials) scales.

        """
        inverse, found = inverse_of(steps), None
        for i, book in enumerate(self.books):
            mine = (which == i)[:, None]
            # A block of another codebook gets the inverse 0: no search, and index 0.
            here = nearest(book, x.ravel(), w.ravel(), np.where(mine, inverse, _0))
            here = here.reshape(len(which), -1, steps.shape[1]) + np.int32(i * len(book.values))
            found = here if found is None else np.where(mine[:, :, None], here, found)
        assert found is not None
        return found


def sets_of(*books: Codebook, magnitudes: bool = False) -> Sets:
    """Codebooks as the sets of a type."""
    return Sets(books, np.concatenate([book.values for book in books]) if books[1:] else books[0].values, magnitudes)
