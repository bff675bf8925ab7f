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
from qxmix.execute import digests, stop
from qxmix.execute.sample import Rows as Piece
from qxmix.execute.sample import sample_rows
from qxmix.execute.source import Source
from qxmix.measurement.lattice import GROUPS, LEAST_BITS, MAX_BITS, Lattice
from qxmix.quants import Engine, codec_of, get
from qxmix.quants.codec import SEARCHES, Rows
from qxmix.quants.lattice import fit_groups

Floats = NDArray[np.float64]

ROUNDING = {"BF16": (2.0**-8, 2.0**-134), "F16": (2.0**-11, 2.0**-25), "F32": (2.0**-22, 2.0**-150)}
"""Largest error of storing a weight: as a share of it, and where it is subnormal.  A float32 may be a rounded product
of a rounded scale, hence some more than half a unit."""
_SIGNIFICANT = -100.0
"""Logarithm of the chance below which a fit is none."""
_OF_A_GROUP = -3.0
"""The same for one group: where multiples cover the line, a fit says nothing."""
_N_FIRST = 64
"""Groups of 32 that are looked at first: nearly all tensors that are no lattice are told by them."""
_N_ROWS = 64
"""Rows on which group sizes and types are tried."""
_NEAR = 0.65
"""Units in the last place of a stored weight within which it comes back where multiples of 8 bits lie that close."""

_TYPES = {
    "IQ1_BN": 1, "TQ1_0": 1, "IQ2_BN": 1, "TQ2_0": 1, "Q3_K": 4, "MXFP4": 12, "Q4_0": 8, "Q5_0": 16, "Q6_0": 32,
    "Q6_K": 32, "Q8_0": 127,
}  # fmt: skip
"""Types that are tried for multiples of a scale, the smallest first, and how far from zero their levels go."""
_SCALES_ROUNDED = ("Q3_K", "MXFP4", "Q6_K")
"""Those of them that round the scales of blocks: by so much that integers of few bits come out, and no weight near."""
_TYPES_WITH_MINIMUM = ("Q4_1", "Q5_1", "Q8_0")
_MOST_WITH_MINIMUM = 5
_MOST_STEPS = 127


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
    tensor, rounding = source.tensor, ROUNDING[source.tensor.type]
    sample = source.decode(source.read(sample_rows(tensor, (), _N_ROWS)))
    for group, minimum, found in _groupings(sample, rounding):
        width = group or tensor.n_cols
        whole, digest = _whole(source, width, rounding, minimum=minimum)
        if whole is None or whole.chance > _SIGNIFICANT:
            continue
        names = _types(sample, found, width, rounding[0], engines, minimum=minimum)
        name = next((n for n in names if _keeps_all(source, n, width, minimum=minimum)), None)
        with opened(source.path) as data:
            spots = spots_sha256(data, tensor)
        why = None if name else _why_none(tensor, whole, engines, minimum=minimum)
        return Lattice(tensor.name, bits_of(whole), group, minimum, name, why, digest, spots)
    return None


def _groupings(x: Rows, rounding: tuple[float, float]) -> list[tuple[int, bool, Fit]]:
    """The ``GROUPS`` in which a sample fits, with a minimum or without: the fewest bits first, then the largest group.

    Weights of few values, like -1, 0 and 1 times two scales, are multiples of a fine step that both scales share, too.
    """
    n_cols, fits = x.shape[1], []
    first = x.reshape(-1, 32)[:_N_FIRST] if n_cols % 32 == 0 else x[:2]
    for minimum in (False, True):
        if fit(first, rounding, minimum=minimum) is None:
            continue
        for group in (g for g in GROUPS if n_cols % (g or n_cols) == 0):
            found = fit(x.reshape(-1, group or n_cols), rounding, minimum=minimum)
            if found is not None:
                fits.append((group, minimum, found))
    return sorted(fits, key=lambda g: bits_of(g[2]))


def _whole(source: Source, width: int, rounding: tuple[float, float], *, minimum: bool) -> tuple[Fit | None, str]:
    """The fit of all groups of a tensor, without their scales, and the digest of its data as an apply makes it."""
    total = Fit(np.empty(0), np.zeros(1), 0, 0, 0.0)
    parts = []
    for leaf in leaf_data(source):
        parts.append(hashlib.sha256(leaf.data).digest())
        x = source.decode(leaf)
        found = fit(x.reshape(-1, width), rounding, minimum=minimum)
        if found is None:
            return None, ""
        total = total._replace(
            m=np.maximum(total.m, np.abs(found.m).max()), least=min(total.least, found.least),
            most=max(total.most, found.most), chance=total.chance + found.chance,
        )  # fmt: skip
    return total, digests.combine(parts).hex()


def leaf_data(source: Source) -> Iterator[NDArray[np.uint8]]:
    """The rows of each leaf of a tensor, as they stand in its file."""
    tensor = source.tensor
    for leaf in digests.leaves(tensor, tensor.nbytes):
        stop.step()
        matrix, first = divmod(leaf.first_row, tensor.n_rows)
        yield source.read([Piece(matrix, first, leaf.n_rows)])


def _types(
    x: Rows, found: Fit, width: int, share: float, engines: tuple[Engine, ...], *, minimum: bool
) -> Iterator[str]:
    """Types, the smallest first, that the engines load and that keep every whole number of a sample ``x``."""
    for name in _TYPES_WITH_MINIMUM if minimum else _TYPES:
        quant_type = get(name)
        if x.shape[1] % quant_type.block_size or (not minimum and max(found.most, -found.least) > _TYPES[name]):
            continue
        if set(engines) <= set(quant_type.engines) and _keeps(name, x, found, width, share):
            yield name


def _keeps_all(source: Source, name: str, width: int, *, minimum: bool) -> bool:
    """Whether a type gives every whole number of a tensor back."""
    rounding = ROUNDING[source.tensor.type]
    for leaf in leaf_data(source):
        x = source.decode(leaf)
        found = fit(x.reshape(-1, width), rounding, minimum=minimum)
        if found is None or not _keeps(name, x, found, width, rounding[0]):
            return False
    return True


def _keeps(name: str, x: Rows, found: Fit, width: int, share: float) -> bool:
    """Whether an encoder, searching exhaustively where it can, gives every whole number of ``x`` back."""
    quant_type, codec = get(name), codec_of(name)
    packed = np.empty((len(x), quant_type.row_nbytes(x.shape[1])), np.uint8)
    back = np.empty_like(x)
    ones = np.ones(x.shape[1] if quant_type.searches else 0, np.float32)
    codec.encode(x, ones, packed, SEARCHES.index("exhaustive") if quant_type.heeds("exhaustive") else 0)
    codec.decode(packed, back)
    room = room_of(x, found, width, share)
    if name in _SCALES_ROUNDED:
        room = np.minimum(room, _NEAR * last_places(x))
    return bool((distances(x, back) <= room).all())


def distances(x: Rows, back: Rows) -> Floats:
    """How far each weight of ``x`` is from what was decoded, in float64."""
    far: Floats = np.abs(back.astype(np.float64) - x)
    return far


def last_places(x: Rows) -> Floats:
    """A unit in the last place of each weight as a bfloat16; of 0 what does not matter."""
    units: Floats = np.ldexp(ROUNDING["BF16"][0], np.frexp(x.astype(np.float64))[1])
    return units


def room_of(x: Rows, found: Fit, width: int, share: float) -> Floats:
    """How far from each weight (n_rows, n_cols) its whole number is told without doubt.

    That is a quarter of a step.  Where a step is hardly more than a stored weight's last place, it is that, which is
    all that the weight tells.
    """
    step = np.repeat(found.d, width).reshape(x.shape)
    # A group of one value has no steps: it is that value as a half.
    room: Floats = np.where(step > 0.0, step / 4, np.abs(x) * 2.0**-10 + 2.0**-24)
    if not found.m.any():
        unit = np.ldexp(share, np.frexp(x)[1])
        room = np.maximum(room, np.where(x != 0.0, _NEAR * unit, 0.0))
    return room


def _why_none(tensor: TensorInfo, whole: Fit, engines: tuple[Engine, ...], *, minimum: bool) -> str:
    """Why no type keeps a lattice."""
    bits, least_block = bits_of(whole), 32
    if tensor.n_cols % least_block:
        return f"rows of {tensor.n_cols} weights are no whole blocks of {least_block}"
    if minimum and bits > _MOST_WITH_MINIMUM:
        return f"no type has a minimum and codes of {bits} bits"
    if not minimum and max(whole.most, -whole.least) > _MOST_STEPS:
        return f"a weight is {max(whole.most, -whole.least)} steps from zero, and Q8_0 has {_MOST_STEPS}"
    which = f" that {' and '.join(engines)} load" if engines else ""
    return f"none of the types that were tried{which} gives every weight back"


def is_looked_at(tensor: TensorInfo) -> bool:
    """Whether a tensor is a matrix of floats that the engines might quantize."""
    return tensor.type in ROUNDING and len(tensor.shape) > 1 and tensor.n_cols >= 32 and tensor.n_rows > 1  # noqa: PLR2004 - a block
