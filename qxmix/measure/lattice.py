"""Finding weights that sit on a lattice: models that were trained or published as integers and then stored as floats.

On a lattice each group of weights is ``d q``, or ``d q + m``, with few bits for ``q``, rounded to the model's float.
The largest magnitude of a group is then a whole multiple of ``d``: ``d = largest / k``, and the smallest ``k`` that
puts all weights of the group within rounding of a multiple is it.  With a minimum, ``d = (largest - smallest) / k``.

Weights that are none can fit by chance, the more easily the more bits.  So every group of the tensor has to fit, and
the chance of that, as the product over weights of the share of the line that counts as a multiple, times the number of
trials, has to be less than e^-100.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qxmix.container.model import TensorInfo
from qxmix.container.source import opened
from qxmix.container.spots import spots_sha256
from qxmix.execute.sample import sample_rows
from qxmix.execute.source import Source
from qxmix.measurement.lattice import Lattice
from qxmix.quants import Engine, codec_of, get
from qxmix.quants.codec import SEARCHES, Rows
from qxmix.quants.lattice import fit_groups

Floats = NDArray[np.float64]

ROUNDING = {"BF16": (2.0**-8, 2.0**-134), "F16": (2.0**-11, 2.0**-25), "F32": (2.0**-22, 2.0**-150)}
"""Largest error of storing a weight: as a share of it, and where it is subnormal.  A float32 may be a rounded product
of a rounded scale, hence some more than half a unit."""
MAX_BITS = 8
LEAST_BITS = 2
GROUPS = (0, 256, 128, 64, 32)
"""Adjacent weights of a row that share a scale, the most first; 0: the row."""
SIGNIFICANT = -100.0
"""Logarithm of the chance below which a fit is none."""
_OF_A_GROUP = -3.0
"""The same for one group: where multiples cover the line, a fit says nothing."""
_N_FIRST = 64
"""Groups of 32 that are looked at first: nearly all tensors that are no lattice are told by them."""
_N_ROWS = 64
"""Rows on which group sizes and types are tried."""
_STEP_WEIGHTS = 1 << 21

_TYPES = ("TQ1_0", "TQ2_0", "Q4_0", "Q5_0", "Q6_0", "Q8_0")
"""Types that are tried for multiples of a scale, the smallest first."""
_TYPES_WITH_MINIMUM = ("Q4_1", "Q5_1", "Q8_0")


class Fit(NamedTuple):
    """Groups that all fit."""

    d: Floats
    """(n_groups,) scales; 0 where all weights are equal and there is a minimum, or are 0."""
    m: Floats
    """(n_groups,) minima; 0 without."""
    least: int
    most: int
    """Of the whole numbers."""
    chance: float
    """Logarithm of the chance that weights on no lattice fit."""


def fit(x: Rows, rounding: tuple[float, float], *, minimum: bool) -> Fit | None:
    """Fit a lattice to each group ``(n_groups, n)``; None where one has none, which the first such group tells."""
    d, m, whole = np.empty(len(x)), np.empty(len(x)), np.empty(2, np.int64)
    most_k = 2**MAX_BITS - 1 if minimum else 2 ** (MAX_BITS - 1)
    fits, chance = fit_groups(np.ascontiguousarray(x), *rounding, minimum, most_k, _OF_A_GROUP, d, m, whole)
    return Fit(d, m, int(whole[0]), int(whole[1]), float(chance)) if fits else None


def bits_of(found: Fit) -> int:
    """Bits of its whole numbers, where a scale may have either sign."""
    n_codes = found.most + 1 if found.least == 0 and found.m.any() else 2 * max(found.most, -found.least)
    return max(LEAST_BITS, int(np.ceil(np.log2(max(1, n_codes)))))


def lattice_of(source: Source, engines: tuple[Engine, ...] = ()) -> Lattice | None:
    """The lattice that all weights of a tensor sit on, or None.

    Args:
        source: The tensor.
        engines: Those that must load the type that keeps it; empty for any.

    Raises:
        ModelFileError: a weight is NaN or infinite.
        RunError: the file ends early, or cannot be read.

    """
    tensor = source.tensor
    sample = source.decode(source.read(sample_rows(tensor, (), _N_ROWS)))
    rounding = ROUNDING[tensor.type]
    first = sample.reshape(-1, 32)[:_N_FIRST] if tensor.n_cols % 32 == 0 else sample[:2]
    for minimum in (False, True):
        if fit(first, rounding, minimum=minimum) is None:
            continue
        for group in GROUPS:
            if group and tensor.n_cols % group:
                continue
            width = group or tensor.n_cols
            found = fit(sample.reshape(-1, width), rounding, minimum=minimum)
            if found is None:
                continue
            whole, digest = _whole(source, width, rounding, minimum=minimum)
            if whole is None or whole.chance > SIGNIFICANT:
                continue
            name = _smallest_type(sample, found, width, engines, minimum=minimum)
            with opened(source.path) as data:
                spots = spots_sha256(data, tensor)
            return Lattice(tensor.name, bits_of(whole), group, minimum, name, digest, spots)
    return None


def _whole(source: Source, width: int, rounding: tuple[float, float], *, minimum: bool) -> tuple[Fit | None, str]:
    """The fit of all groups of a tensor, without their scales, and the digest of its data."""
    total = Fit(np.empty(0), np.zeros(1), 0, 0, 0.0)
    digest = hashlib.sha256()
    for piece in _pieces(source):
        digest.update(piece.data)
        x = source.decode(piece)
        found = fit(x.reshape(-1, width), rounding, minimum=minimum)
        if found is None:
            return None, ""
        total = total._replace(
            m=np.maximum(total.m, np.abs(found.m).max()), least=min(total.least, found.least),
            most=max(total.most, found.most), chance=total.chance + found.chance,
        )  # fmt: skip
    return total, digest.hexdigest()


def _pieces(source: Source) -> Iterator[NDArray[np.uint8]]:
    step = max(1, _STEP_WEIGHTS // source.tensor.n_cols)
    rows = sample_rows(source.tensor, (), None)
    n = max(1, step // rows[0].n)
    for i in range(0, len(rows), n):
        yield source.read(rows[i : i + n])


def _smallest_type(x: Rows, found: Fit, width: int, engines: tuple[Engine, ...], *, minimum: bool) -> str | None:
    """The smallest type whose encoder, searching exhaustively, gives every whole number of the sample back."""
    step = np.repeat(found.d, width).reshape(x.shape)
    for name in _TYPES_WITH_MINIMUM if minimum else _TYPES:
        quant_type, codec = get(name), codec_of(name)
        if x.shape[1] % quant_type.block_size or (name.startswith("TQ") and max(found.most, -found.least) > 1):
            continue
        if not set(engines) <= set(quant_type.engines):
            continue
        packed = np.empty((len(x), quant_type.row_nbytes(x.shape[1])), np.uint8)
        back = np.empty_like(x)
        ones = np.ones(x.shape[1] if quant_type.searches else 0, np.float32)
        codec.encode(x, ones, packed, SEARCHES.index("exhaustive") if quant_type.searches else 0)
        codec.decode(packed, back)
        if (np.abs(back.astype(np.float64) - x) <= step / 4).all():
            return name
    return None


def is_looked_at(tensor: TensorInfo) -> bool:
    """Whether a tensor is a matrix of floats that the engines might quantize."""
    return tensor.type in ROUNDING and len(tensor.shape) > 1 and tensor.n_cols >= 32 and tensor.n_rows > 1  # noqa: PLR2004 - a block
