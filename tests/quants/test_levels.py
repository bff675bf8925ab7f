"""The types with two level tables against the slow encoder, and what their search stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.quants import codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.common.levels import thresholds
from qxmix.quants.level.iq3_k import TABLES as IQ3
from qxmix.quants.level.iq4_k import TABLES as IQ4
from qxmix.quants.level.iq5_k import TABLES as IQ5
from qxmix.quants.level.iq6_k import TABLES as IQ6
from tests.quants.naive.levels import KINDS, decode, empty, encode, level, pack
from tests.quants.naive.scalar import near

if TYPE_CHECKING:
    from qxmix.quants.level.two_tables import TwoTables

NAMES = list(KINDS)
ROW_SCALE = [name for name in NAMES if get(name).row_meta_nbytes]


def row(seed: int) -> np.ndarray:
    """Two super-blocks of ordinary weights, some of their blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 512).astype(np.float32).reshape(32, 16)
    for j in rng.choice(32, rng.integers(4, 16), replace=False):
        x[j] = [np.zeros(16), np.full(16, -0.5), x[j] * 1e-9, rng.choice([1.0, -1.0, 0.0, -0.0], 16)][rng.integers(4)]
    return x.reshape(1, 512)


def importance(seed: int) -> np.ndarray:
    """Importances of 512 columns, those of one block zero, and one block's that leave out all but its least weight."""
    rng = np.random.default_rng(seed)
    imatrix = rng.gamma(0.5, 1.0, 512).astype(np.float32)
    imatrix[32:64] = 0
    x = row(seed)[0, 128:160]
    imatrix[128:160] = np.where(abs(x) == abs(x).min(), 1, 0)
    return imatrix


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bytes_equal_the_slow_encoder(name: str, seed: int, weighted: bool) -> None:
    x, imatrix = row(seed), importance(seed) if weighted else None
    n = 512 if name in ROW_SCALE else 256
    parts = [slice(at, at + n) for at in range(0, 512, n)]
    expected = b"".join(encode(name, x[0, p], None if imatrix is None else imatrix[p]) for p in parts)
    assert quantize(x, name, imatrix).tobytes() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_row_has_the_bytes_that_the_engine_writes(name: str) -> None:
    n = 512 if name in ROW_SCALE else 256
    expected = empty(name, n) * (512 // n)
    for imatrix in (None, np.ones(512)):
        assert quantize(np.zeros((1, 512)), name, imatrix).tobytes() == expected
        assert quantize(np.full((1, 512), 1e-17), name, imatrix).tobytes() == expected


@pytest.mark.parametrize("name", NAMES)
def test_blocks_without_importance_are_still_fitted(name: str) -> None:
    x = np.random.default_rng(3).standard_normal((1, 256)).astype(np.float32)
    imatrix = np.ones(256, np.float32)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    lost, energy = np.square(x - y)[0, 32:96].sum(), np.square(x)[0, 32:96].sum()
    assert lost < 8 * 4 ** -get(name).bpw * energy


@pytest.mark.parametrize("name", NAMES)
def test_more_rows_than_lanes_and_fewer(name: str) -> None:
    """Each row by itself has one lane in use, all together more than there are lanes."""
    x = np.random.default_rng(4).standard_t(4, (67, 256)).astype(np.float32)
    whole, n = quantize(x, name), get(name).row_nbytes(256)
    parts = [quantize(x[i : i + 1], name) for i in (0, 15, 16, 63, 64, 66)]
    assert b"".join(p.tobytes() for p in parts) == whole[[0, 15, 16, 63, 64, 66]].tobytes()
    assert whole.shape == (67, n)


@pytest.mark.parametrize("name", NAMES)
def test_decoder_equals_the_slow_one(name: str) -> None:
    rng, kind = np.random.default_rng(5), KINDS[name]
    n = 512 // kind.block
    levels, sides = [level(name, m) for m in rng.normal(0, 20, n).astype(np.float32)], list(rng.integers(0, 2, n))
    codes = list(rng.integers(0, len(kind.table), 512))
    half = [slice(i * n // 2, i * n // 2 + n // 2) for i in range(2)]
    d = np.float32(0.5625)
    scale, row_scale = d.astype(np.float16).tobytes(), name in ROW_SCALE
    start = b"" if not row_scale else scale if name == "IQ3_KS" else d.tobytes()
    supers = [pack(name, levels[p], sides[p], codes[256 * i : 256 * i + 256]) for i, p in enumerate(half)]
    packed = start + b"".join(supers if row_scale else [scale + each for each in supers])
    expected = decode(name, d, levels, sides, codes)
    np.testing.assert_array_equal(dequantize(np.frombuffer(packed, np.uint8), name, 512)[0], expected)


@pytest.mark.parametrize("tables", [IQ3, IQ4, IQ5, IQ6], ids=["IQ3", "IQ4", "IQ5", "IQ6"])
def test_entries_of_the_look_up(tables: TwoTables) -> None:
    """What the kernels gather, at and next to every threshold, level and whole number."""
    for side in (0, 1):
        levels = tables.levels + np.float32(side) * tables.shift
        flips = thresholds(levels)
        values = np.concatenate([flips, levels, np.arange(levels[0], levels[-1], dtype=np.float32)])
        around = [np.nextafter(values, np.float32(way)) for way in (-1000, 1000)]
        for y in np.concatenate([values, *around]).clip(levels[0], levels[-1]):
            bucket = int(y) - int(levels[0]) + side * tables.n_buckets
            at = 2 * bucket + (y >= tables.flip[bucket])
            code = near(list(levels), y)
            assert tables.code[at] == code
            assert tables.high[at] == levels[code]
            assert tables.low[at] == levels[max(code - 1, 0)]
            assert tables.last[at] == (flips[code - 1] if code else -np.inf)


def test_search_is_not_an_option_of_these_types() -> None:
    assert all(codec_of(name).searches == () for name in NAMES)
