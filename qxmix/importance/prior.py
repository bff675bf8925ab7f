"""A prior for thin experts: what one saw is blended with what the others of its tensor saw."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from qxmix.container.imatrix import Imatrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def with_prior(imatrix: Imatrix, n_tokens: int) -> Imatrix:
    """Blend the importances of each stacked matrix with those of its siblings.

    With n tokens of its own and mean squares v, a matrix gets (n v + N a) / (n + N), where N is ``n_tokens`` and ``a``
    the average of the other matrices of the tensor, weighted by their tokens.  One that saw nothing gets ``a``; where
    no other one saw anything, either, nothing changes.  Entries without counts per matrix stay as they are.

    Sums run in float64 from matrix 0 on, so that the values, and with them the encoded bytes, are the same everywhere.
    """
    blended = {
        name: _blended(imatrix.entries[name], counts, n_tokens)
        for name, counts in imatrix.counts.items()
        if counts.size > 1
    }
    return replace(imatrix, entries=MappingProxyType({**imatrix.entries, **blended})) if blended else imatrix


def _blended(values: NDArray[np.float32], counts: NDArray[np.float32], n_tokens: int) -> NDArray[np.float32]:
    import numpy as np  # noqa: PLC0415 - whoever has a matrix has paid for it; the planner must not for those without

    means = values.reshape(counts.size, -1)
    seen = counts.astype(np.float64)
    total = np.zeros(means.shape[1])
    for mean, n in zip(means, seen, strict=True):
        total += mean * n
    made = means.copy()
    for i, n in enumerate(seen):
        others = float(seen.sum() - n)
        if others > 0:
            # The difference of two sums of what is not negative; rounding may put it below 0.
            average = np.maximum(total - means[i] * n, 0.0) / others
            made[i] = (means[i] * n + average * n_tokens) / (n + n_tokens)
    made.flags.writeable = False
    return made.reshape(-1)
