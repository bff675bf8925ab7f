"""Kernels that read or write outside of an array in one way each; run with ``NUMBA_BOUNDSCHECK=1``.

``python -m tests.quants.bounds.planted`` prints, for each way, what came of two indices that are within bounds and of
some that are not: ``ok`` or the name of the exception; with ``within`` only the former.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.simd import WIDTH, gather, load, load_word, splat, store, store_bytes, store_word
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable


N = 40
_1 = np.float32(1.0)


@kernel
def _read(array, index):
    return array[np.uint32(index)]


@kernel
def _write(array, index):
    array[np.uint32(index)] = _1
    return _1


@inlined
def _first(array, index):
    return array[index]


@kernel
def _read_inlined(array, index):
    return _first(array[0:N], np.uint32(index))


@spliced
def _second(array, index):
    return array[index]


@kernel
def _read_spliced(array, index):
    return _second(array[0:N], np.uint32(index))


@kernel
def _load(array, index):
    store(array, 0, load(array, np.int64(index)))
    return _1


@kernel
def _store(array, index):
    store(array, np.int64(index), splat(_1))
    return _1


@kernel
def _store_bytes(array, index):
    packed = np.zeros(N, np.uint8)
    store_bytes(packed, np.int64(index), splat(_1))
    return np.float32(packed[0]) + array[0]


@kernel
def _load_word(array, index):
    packed = np.zeros(N, np.uint8)
    return np.float32(load_word(packed, np.int64(index))) + array[0]


@kernel
def _store_word(array, index):
    packed = np.zeros(N, np.uint8)
    store_word(packed, np.int64(index), np.uint32(1))
    return np.float32(packed[0]) + array[0]


@kernel
def _gather(array, index):
    at = splat(np.float32(0.0))
    lanes = np.zeros(WIDTH, np.float32)
    lanes[WIDTH - 1] = index
    store(array, 0, gather(array, load(lanes, 0) + at))
    return _1


WAYS: dict[str, tuple[Callable[..., object], float]] = {
    "read": (_read, N - 1),
    "write": (_write, N - 1),
    "inlined": (_read_inlined, N - 1),
    "spliced": (_read_spliced, N - 1),
    "load": (_load, N - WIDTH),
    "store": (_store, N - WIDTH),
    "store_bytes": (_store_bytes, N - WIDTH),
    "load_word": (_load_word, N - 4),
    "store_word": (_store_word, N - 4),
    "gather": (_gather, N - 1),
}
"""Each way of access with the last index that it may have in an array of N."""


def outcome(way: Callable[..., object], index: float) -> str:
    array = np.zeros(4 * N, np.float32)[:N]  # what lies beyond is memory that may be touched
    try:
        way(array, np.float32(index))
    except IndexError as error:
        return type(error).__name__
    return "ok"


if __name__ == "__main__":
    within = sys.argv[1:] == ["within"]  # without checks the others would crash
    for name, (way, last) in WAYS.items():
        found = [outcome(way, index) for index in ((0, last) if within else (0, last, last + 1, 2 * N, -1))]
        if not within:
            found.append(outcome(way, np.nan) if name == "gather" else "-")
        print(name, *found)
