"""Seeded numbers that are the same on every machine: raw bits of PCG64, then plain float32 arithmetic."""

from __future__ import annotations

from math import prod
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_BELL_STD = np.float32(37837.0)
"""Standard deviation of the sum of four uniform 16-bit integers: sqrt(4 * (2**32 - 1) / 12), rounded."""


def _bits(seed: int, name: str, n: int) -> NDArray[np.uint64]:
    # numpy promises the raw stream of a seeded PCG64; its distributions may change between versions.
    return np.random.PCG64([seed, crc32(name.encode())]).random_raw(n)


def uniform(seed: int, name: str, n: int) -> NDArray[np.float32]:
    """``n`` float32 in [0, 1) that depend on ``seed`` and ``name`` alone."""
    values: NDArray[np.float32] = (_bits(seed, name, n) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return values


def heavy_tailed(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Float32 weights of ``shape`` (numpy order) with standard deviation near 1, symmetric, kurtosis near 5.

    A sum of four uniform integers makes the bell; a cubic term stretches its tails the way trained weights have them.
    """
    quarters = _bits(seed, name, prod(shape)).view(np.uint16).reshape(-1, 4)
    bell = (quarters.sum(axis=1, dtype=np.int32) - np.int32(2 * 65535)).astype(np.float32) / _BELL_STD
    stretched: NDArray[np.float32] = bell * (np.float32(0.7) + np.float32(0.1) * bell * bell)
    return stretched.reshape(shape)
