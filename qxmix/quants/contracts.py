"""What the pieces of encoders and decoders promise each other: a name and a signature for each kind.

A factory takes pieces and makes a kernel of them, into which they are compiled; so arguments go by position, and what
numba infers the types of is ``Any`` here.  The same thing has the same name everywhere:

* ``rows`` (n_rows, n_cols) float32, ``columns`` (n_cols,) or (0,) float32, ``packed`` uint8, ``search`` an index into
  ``codec.SEARCHES``: the arguments of an encoder. ``flat`` and ``data`` are the flat contents of rows and packed.
* ``x``, ``w`` (n, LANES) float32: weights and what their errors count for, blocks side by side. ``q`` (n, LANES)
  float32: levels or codes. ``scale``, ``minimum`` (LANES,) float32. ``codes`` (256, LANES) uint8.
* ``k`` a lane, ``g`` the first lane of a vector, ``e`` an element of a block, ``at`` where something starts in bytes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Floating = Any
"""A scalar of a kernel, or a vector of ``simd``."""


class Weigh(Protocol):
    """Makes the importances in ``w`` (256, LANES) the weights of the search; they are unset where not ``weighted``."""

    def __call__(self, x: Floats, w: Floats, weighted: bool, /) -> None: ...


class WeighLanes(Protocol):
    """``Weigh`` for the first ``n_lanes`` lanes, a multiple of WIDTH."""

    def __call__(self, x: Floats, w: Floats, n_lanes: int, weighted: bool, /) -> None: ...


class FindLevels(Protocol):
    """Writes the scale and the levels in ``[-nmax, nmax - 1]`` of each lane."""

    def __call__(
        self, x: Floats, w: Floats, nmax: int | np.int64, search: int, scale: Floats, q: Floats, /
    ) -> None: ...


class FindScale(Protocol):
    """Writes the scale and the levels of each lane, of a table that the function knows."""

    def __call__(self, x: Floats, w: Floats, search: int, scale: Floats, q: Floats, /) -> None: ...


class FindBlock(Protocol):
    """Writes scale, minimum where the type has one, and codes from 0 up, of each lane."""

    def __call__(self, x: Floats, w: Floats, search: int, scale: Floats, minimum: Floats, q: Floats, /) -> None: ...


class PackBlock(Protocol):
    """Stores a block of 32 at ``packed[at:]``: codes of weights 0 .. 15 in the vector ``low``, others in ``high``."""

    def __call__(
        self, packed: Bytes, at: int, scale: Floating, minimum: Floating, low: Floating, high: Floating, /
    ) -> None: ...


class Fill(Protocol):
    """Writes all bytes of super-blocks side by side, ``packed`` (nbytes, LANES).

    ``given`` is the search, or a tuple of arrays that the encoder hands through.
    """

    def __call__(
        self,
        x: Floats,
        w: Floats,
        weighted: bool,
        given: Any,
        packed: Bytes,
        /,
    ) -> None: ...


class PackGrid(Protocol):
    """Stores a super-block of a grid type at ``packed[at:]``, all but its scale.

    ``ls`` (n_blocks,) uint8 4-bit scales, ``chosen`` (n_groups,) int32 grid indices, ``signs`` (32,)
    uint8 a bit a weight.
    """

    def __call__(self, packed: Bytes, at: int, ls: Bytes, chosen: NDArray[np.int32], signs: Bytes, /) -> None: ...


class PackLevels(Protocol):
    """Stores ``codes`` (256, LANES), levels and tables (n_blocks, LANES) in ``packed`` (nbytes, LANES): all but d."""

    def __call__(self, codes: Bytes, levels: Floats, shifted: Floats, packed: Bytes, /) -> None: ...


class PutSuper(Protocol):
    """Decodes the super-block at ``data[at:]`` to ``flat[start:]``."""

    def __call__(self, data: Bytes, at: int, flat: Floats, start: int, /) -> None: ...


class PutRow(Protocol):
    """Decodes the super-block at ``data[at:]`` of a row whose scale is ``d`` to ``row[start:]``."""

    def __call__(self, data: Bytes, at: int, d: Floating, row: Floats, start: int, /) -> None: ...


class PutGrid(Protocol):
    """Decodes the super-block at ``data[at:]`` to ``flat[to:]``; ``values`` (n_points, n) are the grid's points."""

    def __call__(self, data: Bytes, at: int, values: Floats, flat: Floats, to: int, /) -> None: ...
