"""The trellis types against the slow scalar encoders, their codebooks, and where their weights say nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qxmix.quants.api import dequantize, quantize
from qxmix.quants.common.simd_bytes import PLACES
from qxmix.quants.trellis import codebook as trellis
from qxmix.quants.trellis.search import nearest
from tests.quants.naive.trellis import iq1_kt, iq2_kt, iq3_kt, iq4_kt
from tests.quants.naive.trellis_book import IQ1, IQ2, IQ3, IQ4_SETS, Book

ENCODERS = {"IQ1_KT": iq1_kt, "IQ2_KT": iq2_kt, "IQ3_KT": iq3_kt, "IQ4_KT": iq4_kt}
BOOKS = {"IQ1_KT": IQ1, "IQ2_KT": IQ2, "IQ3_KT": IQ3, "IQ4_KT": IQ4_SETS[0], "IQ4_KT second": IQ4_SETS[1]}


def row(seed: int) -> np.ndarray:
    """Ordinary weights, some of the blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 256).astype(np.float32).reshape(8, 32)
    for j in rng.choice(8, rng.integers(0, 5), replace=False):
        x[j] = [np.zeros(32), np.full(32, -0.5), x[j] * 1e-9, rng.choice([1.0, -1.0, 0.0, -0.0], 32)][rng.integers(4)]
    return x.reshape(1, 256)


def importance(seed: int) -> np.ndarray:
    """Importances; those of one block, of one group and of some columns are zero."""
    rng = np.random.default_rng(seed)
    imatrix = rng.gamma(0.5, 1.0, 256).astype(np.float32)
    imatrix.reshape(8, 32)[rng.integers(8)] = 0
    imatrix.reshape(32, 8)[rng.integers(32)] = 0
    imatrix[rng.choice(256, 40)] = 0
    return imatrix


def built(book: Book) -> trellis.Codebook:
    return trellis.codebook(book.n_values, book.n, book.n_near, offset=book.offset, magnitudes=book.magnitudes)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("seed", range(3))
def test_bytes_equal_the_scalar_encoder(name: str, seed: int) -> None:
    x, imatrix = row(seed), importance(seed) if seed % 2 == 0 else None
    assert quantize(x, name, imatrix).tobytes() == ENCODERS[name](x[0], imatrix)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("scale", [1e-7, 1e-15, 1e3])
def test_bytes_equal_the_scalar_encoder_far_from_one(name: str, scale: float) -> None:
    x = row(7) * np.float32(scale)
    assert quantize(x, name).tobytes() == ENCODERS[name](x[0], None)


@pytest.mark.parametrize(("name", "which"), [("IQ3_KT", 739), ("IQ4_KT", 952)])
def test_scales_of_blocks_are_fitted_with_one_rounding(name: str, which: int) -> None:
    """Two rows, found among 8000, whose bytes are others where a product is rounded before it is added."""
    x = np.random.default_rng(77).standard_t(3, (which + 1, 256)).astype(np.float32)[which:]
    assert quantize(x, name).tobytes() == ENCODERS[name](x[0], None)


@pytest.mark.parametrize("name", BOOKS)
def test_lists_of_code_vectors(name: str) -> None:
    book, lists = BOOKS[name], built(BOOKS[name])
    np.testing.assert_array_equal(lists.values, book.values)
    for c in np.random.default_rng(0).choice(len(lists.first) - 1, 40, replace=False):
        of, to = lists.first[c], lists.first[c + 1]
        members, wanted = lists.members[PLACES * of : PLACES * to], book.listed(int(c))
        assert set(members) == set(wanted)
        assert len(members) == -(-len(wanted) // PLACES) * PLACES
        values = lists.candidates.reshape(-1, book.n)[PLACES * of : PLACES * to]
        assert (values == book.values[members]).all()
        # Each value is in its slot, and both ends of a slot that has values are among them.
        slot = lists.slots.of.reshape(-1, book.n, PLACES)[of:to].transpose(0, 2, 1).reshape(-1, book.n)
        for k in range(book.n):
            for i in np.unique(slot[:, k]):
                mine = values[slot[:, k] == i, k]
                assert (mine.min(), mine.max()) == (lists.slots.low[c, k, i], lists.slots.high[c, k, i])


@pytest.mark.parametrize("name", ["IQ1_KT", "IQ3_KT", "IQ4_KT"])
def test_trials_share_a_search_and_find_the_same(name: str) -> None:
    """Weights of a few equal magnitudes: many code vectors are equally near, and the order of the list decides."""
    book, rng = BOOKS[name], np.random.default_rng(1)
    x, w = rng.choice([0.25, -0.5, 0.5, 1.0], 64).astype(np.float32), rng.choice([0, 1, 1, 2], 64).astype(np.float32)
    x, inverse = np.abs(x) if book.magnitudes else x, rng.choice([-70, 60, 64, 100, 0], (2, 9)).astype(np.float32)
    found = nearest(built(book), x, w, inverse)
    for b in range(2):
        for t in range(9):
            at = slice(32 * b, 32 * b + 32)
            d = np.float32(1) / inverse[b, t] if inverse[b, t] else np.float32(0)
            # The scalar search divides once more: compare where that gives the same scale.
            if d == 0 or np.float32(1) / d == inverse[b, t]:
                assert list(found[:, t].reshape(2, -1)[b]) == book.match(d, x[at], w[at])


@pytest.mark.parametrize("name", ["IQ2_KT", "IQ3_KT", "IQ4_KT"])
def test_roundings_of_bounds_do_not_decide(name: str) -> None:
    """One weight of each group counts, and lies halfway between two values: the sums are equal, their bounds not."""
    book, rng = BOOKS[name], np.random.default_rng(2)
    x, w = np.full(512, 1.5, np.float32), np.zeros(512, np.float32)
    at = np.arange(0, 512, book.n) + rng.integers(0, book.n, 512 // book.n)
    x[at] = rng.integers(10, 60, len(at)) + np.float32(0.5)
    w[at] = rng.gamma(1.0, 1.0, len(at))
    found = nearest(built(book), x, w, np.ones((16, 1), np.float32))[:, 0]
    expected = [book.match(np.float32(1), x[b : b + 32], w[b : b + 32]) for b in range(0, 512, 32)]
    assert list(found) == [i for block in expected for i in block]


@pytest.mark.parametrize("name", ["IQ1_KT", "IQ3_KT", "IQ4_KT"])
def test_what_is_usual_does_not_decide(name: str) -> None:
    """Weights of errors that differ by 40 orders between groups, and scales that put all code vectors far away."""
    book, rng = BOOKS[name], np.random.default_rng(4)
    x = rng.standard_t(3, 1024).astype(np.float32)
    x = np.abs(x) if book.magnitudes else x
    orders = np.repeat(10.0 ** rng.integers(-36, 4, 1024 // book.n), book.n)
    w = (rng.gamma(1.0, 1.0, 1024) * orders).astype(np.float32)
    inverse = np.ldexp(1.0, rng.integers(3, 18, (32, 1))).astype(np.float32)
    found = nearest(built(book), x, w, inverse).reshape(32, -1)
    for b in range(32):
        at = slice(32 * b, 32 * b + 32)
        assert list(found[b]) == book.match(np.float32(1) / inverse[b, 0], x[at], w[at])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_distances_that_are_no_numbers_are_never_least() -> None:
    """Weights of errors with which some or all distances overflow: the first vector of the list where none is left."""
    book, x = BOOKS["IQ2_KT"], np.tile(np.linspace(-1, 1, 32, dtype=np.float32), 3)
    w = np.repeat(np.array([3e34, 1e38, np.inf], np.float32), 32)
    found = nearest(built(book), x, w, np.full((3, 1), 90, np.float32)).reshape(3, -1)
    lists = built(book)
    for g in range(12):
        v = np.float32(90) * x[8 * g : 8 * g + 8]
        c = (v > lists.edges) @ (2 ** np.arange(8))
        members = lists.members[PLACES * lists.first[c] : PLACES * lists.first[c + 1]]
        t = w[8 * g : 8 * g + 8] * np.square(lists.values[members] - v)
        t = t[:, :4] + t[:, 4:]
        t = t[:, :2] + t[:, 2:]
        score = t[:, 0] + t[:, 1]
        assert found.ravel()[g] == members[np.where(score < np.inf, score, np.inf).argmin()]


def test_threads_that_come_at_once_build_one_codebook() -> None:
    with ThreadPoolExecutor(4) as pool:
        books = list(pool.map(lambda _: trellis.codebook(8192, 8, 16), range(4)))
    assert all(book is books[0] for book in books)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_zero_row_is_all_zero_bytes(name: str) -> None:
    for imatrix in (None, np.ones(256), np.zeros(256)):
        assert not quantize(np.zeros((1, 256)), name, imatrix).any()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    """The reference keeps the scales of the row before where no trial explains anything."""
    x = np.concatenate([row(1), np.full((1, 256), 1e-30, np.float32), row(2)])
    together = quantize(x, name)
    np.testing.assert_array_equal(np.concatenate([quantize(x[i : i + 1], name) for i in range(3)]), together)


@pytest.mark.parametrize(("name", "lost"), [("IQ1_KT", 0.2), ("IQ2_KT", 0.1), ("IQ3_KT", 0.03), ("IQ4_KT", 0.01)])
def test_blocks_without_importance_are_still_fitted(name: str, lost: float) -> None:
    x = np.random.default_rng(3).standard_normal((1, 256)).astype(np.float32)
    imatrix = np.ones(256, np.float32)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    assert np.square(x - y)[0, 32:96].sum() < lost * np.square(x)[0, 32:96].sum()
