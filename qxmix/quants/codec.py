"""What a type's file offers: an encoder and a decoder over rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Search = Literal["gradient", "heuristic", "exhaustive"]
SEARCHES: tuple[Search, ...] = ("gradient", "heuristic", "exhaustive")
"""How a scale is searched; kernels get the index into this tuple.  The first is what is done unless one is named."""

Rows = NDArray[np.float32]
"""(n_rows, n_cols) weights, C-contiguous."""
Packed = NDArray[np.uint8]
"""(n_rows, row_nbytes) encoded rows, C-contiguous; interleaved types fill whole row groups."""
Columns = NDArray[np.float32]
"""(n_cols,) importance of each column, or (0,) where there is none: one signature, one compiled kernel."""

Factors = NDArray[np.float32]
"""(n_spans, 256, 256) what the error of one column does to later ones, as ``feedback.factor`` makes it."""
FeedbackEncoder = Callable[[Rows, Columns, Factors, Packed, int], None]
"""``encode(rows, columns, factors, packed, search)``; columns must be there."""
ScaledEncoder = Callable[[Rows, Columns, Packed, np.float32], None]
"""``encode(rows, columns, packed, factor)``: ``factor`` times the scales that the encoder finds."""
BlockSearch = Callable[[Rows, Rows, int, Columns, Rows], None]
"""``search(x, w, search, scale, levels)``: of LANES blocks of any length side by side, (n, LANES) each, the scale
(LANES,) and the levels that explain most of ``x`` under the weights ``w``; both are written."""


class Encoder(Protocol):
    """Fills ``packed`` from ``rows``; ``columns`` are importances or empty, ``search`` an index into ``SEARCHES``."""

    def __call__(self, rows: Rows, columns: Columns, packed: Packed, search: int, /) -> None:
        """Encode."""


class Decoder(Protocol):
    """Fills ``rows`` from ``packed``."""

    def __call__(self, packed: Packed, rows: Rows, /) -> None:
        """Decode."""


def importance_decides(encode: Encoder, *, without: Encoder) -> Encoder:
    """Encoder that is ``encode`` where there is an importance and ``without`` where there is none."""

    def either(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
        (encode if len(columns) else without)(rows, columns, packed, search)

    return either


AnyEncoder = TypeVar("AnyEncoder", Encoder, FeedbackEncoder)


def search_decides(scan: AnyEncoder, *, exhaustive: AnyEncoder) -> AnyEncoder:
    """Encoder that is ``exhaustive`` for that search and ``scan`` for the others: neither compiles with the other."""

    def either(*arguments: Any) -> None:
        (exhaustive if SEARCHES[arguments[-1]] == "exhaustive" else scan)(*arguments)

    return either


def at_factor(scaled: ScaledEncoder, factor: float) -> Encoder:
    """Encoder that is ``scaled`` for one factor."""
    own = np.float32(factor)

    def encode(rows: Rows, columns: Columns, packed: Packed, _search: int) -> None:
        scaled(rows, columns, packed, own)

    return encode


@dataclass(frozen=True, slots=True)
class Codec:
    """Encoder and decoder of one type.  Both fill what the caller allocated and trust its shape."""

    decode: Decoder
    encode: Encoder
    searches: tuple[Search, ...] = ()
    """The searches between which the encoder really chooses; empty where ``search`` changes nothing."""
    search_block: BlockSearch | None = None
    """The search of one block alone, before its scale is rounded for the file; None where the type has none."""
    feedback: FeedbackEncoder | None = None
    """The encoder with error feedback; None where the type has none."""
    scaled: ScaledEncoder | None = None
    """The encoder for any factor of its scales; None where the type has none, or a search that leaves it no use."""
    symmetric: Encoder | None = None
    """The encoder for levels that lie evenly around zero; None where the type has none, or no others."""
    version: int = 1
    """Raised with every change of the encoder's bytes: cached tensors of an older version are not reused."""


def encoder_for(codec: Codec, *, symmetric: bool = False, scale: float | None = None) -> Encoder:
    """The encoder of a codec without error feedback, for levels around zero, or for a factor of its scales.

    What the codec does not have changes nothing.
    """
    if symmetric and codec.symmetric is not None:
        return codec.symmetric
    return codec.encode if scale is None or codec.scaled is None else at_factor(codec.scaled, scale)
