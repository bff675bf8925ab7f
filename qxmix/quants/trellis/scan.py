"""Distances of code vectors from groups of weights, 16 at a time: the inner loops of ``trellis.search``.

Bounds have groups in lanes and take one code vector after the other; scores have code vectors in lanes and take one
group.  ``q`` holds code vectors as floats, chunk after chunk, each (n, WIDTH); ``w``, ``u`` and ``v`` are (n, WIDTH).
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.simd import WIDTH, add_rough_product, load, splat, store
from qxmix.quants.jit import inlined, kernel

_0 = np.float32(0.0)
_2 = np.float32(2.0)
_INF = np.float32(np.inf)


@inlined
def _add(sums, w, u, q, squares, at):
    """One weight's part of A and B."""
    return add_rough_product(sums[0], w, splat(squares[at])), add_rough_product(sums[1], u, splat(q[at]))


@kernel
def sums8(w, u, q, squares, at, sums):
    """A and B of the chunk of code vectors at ``at`` for 16 groups, to ``sums`` (2, WIDTH, WIDTH)."""
    w0, w1, w2, w3 = load(w, 0), load(w, WIDTH), load(w, 2 * WIDTH), load(w, 3 * WIDTH)
    w4, w5, w6, w7 = load(w, 4 * WIDTH), load(w, 5 * WIDTH), load(w, 6 * WIDTH), load(w, 7 * WIDTH)
    u0, u1, u2, u3 = load(u, 0), load(u, WIDTH), load(u, 2 * WIDTH), load(u, 3 * WIDTH)
    u4, u5, u6, u7 = load(u, 4 * WIDTH), load(u, 5 * WIDTH), load(u, 6 * WIDTH), load(u, 7 * WIDTH)
    for j in range(WIDTH):
        i = at + j
        s = w0 * splat(squares[i]), u0 * splat(q[i])
        s = _add(s, w1, u1, q, squares, i + WIDTH)
        s = _add(s, w2, u2, q, squares, i + 2 * WIDTH)
        s = _add(s, w3, u3, q, squares, i + 3 * WIDTH)
        s = _add(s, w4, u4, q, squares, i + 4 * WIDTH)
        s = _add(s, w5, u5, q, squares, i + 5 * WIDTH)
        s = _add(s, w6, u6, q, squares, i + 6 * WIDTH)
        s = _add(s, w7, u7, q, squares, i + 7 * WIDTH)
        store(sums, j * WIDTH, s[0])
        store(sums, (WIDTH + j) * WIDTH, s[1])


@inlined
def _square(total, w, b, q, at):
    """Add ``q * (w * q + b)``, a weight's part of ``A - 2 * B``, from one number of the list instead of two."""
    value = splat(q[at])
    return add_rough_product(total, add_rough_product(b, w, value), value)


@kernel
def bound_one8(w, u, q, n_chunks, least, overall):
    """The first pass where groups have one trial each: what ``bound`` does, with half as many reads of the list."""
    w0, w1, w2, w3 = load(w, 0), load(w, WIDTH), load(w, 2 * WIDTH), load(w, 3 * WIDTH)
    w4, w5, w6, w7 = load(w, 4 * WIDTH), load(w, 5 * WIDTH), load(w, 6 * WIDTH), load(w, 7 * WIDTH)
    b0, b1, b2, b3 = load(u, 0) * -_2, load(u, WIDTH) * -_2, load(u, 2 * WIDTH) * -_2, load(u, 3 * WIDTH) * -_2
    b4, b5, b6, b7 = (
        load(u, 4 * WIDTH) * -_2,
        load(u, 5 * WIDTH) * -_2,
        load(u, 6 * WIDTH) * -_2,
        load(u, 7 * WIDTH) * -_2,
    )
    smallest = splat(_INF)
    for chunk in range(n_chunks):
        lowest = splat(_INF)
        for j in range(WIDTH):
            i = chunk * 8 * WIDTH + j
            even, odd = _square(splat(_0), w0, b0, q, i), _square(splat(_0), w1, b1, q, i + WIDTH)
            even, odd = _square(even, w2, b2, q, i + 2 * WIDTH), _square(odd, w3, b3, q, i + 3 * WIDTH)
            even, odd = _square(even, w4, b4, q, i + 4 * WIDTH), _square(odd, w5, b5, q, i + 5 * WIDTH)
            even, odd = _square(even, w6, b6, q, i + 6 * WIDTH), _square(odd, w7, b7, q, i + 7 * WIDTH)
            lowest = min(lowest, even + odd)
        store(least, chunk * WIDTH, lowest)
        smallest = min(smallest, lowest)
    store(overall, 0, smallest)


@kernel
def sums4(w, u, q, squares, at, sums):
    """The same for groups of 4."""
    w0, w1, w2, w3 = load(w, 0), load(w, WIDTH), load(w, 2 * WIDTH), load(w, 3 * WIDTH)
    u0, u1, u2, u3 = load(u, 0), load(u, WIDTH), load(u, 2 * WIDTH), load(u, 3 * WIDTH)
    for j in range(WIDTH):
        i = at + j
        s = w0 * splat(squares[i]), u0 * splat(q[i])
        s = _add(s, w1, u1, q, squares, i + WIDTH)
        s = _add(s, w2, u2, q, squares, i + 2 * WIDTH)
        s = _add(s, w3, u3, q, squares, i + 3 * WIDTH)
        store(sums, j * WIDTH, s[0])
        store(sums, (WIDTH + j) * WIDTH, s[1])


@inlined
def _pair(w, v, q, lane, at, i, k):
    """Two weights' parts of the sum, for 16 code vectors."""
    d, e = load(q, at + i * WIDTH) - splat(v[i, lane]), load(q, at + k * WIDTH) - splat(v[k, lane])
    return splat(w[i, lane]) * (d * d) + splat(w[k, lane]) * (e * e)


@inlined
def score8(w, v, q, lane, at):
    """The reference's sum for group ``lane`` and the chunk of code vectors at ``at``."""
    left = _pair(w, v, q, lane, at, 0, 4) + _pair(w, v, q, lane, at, 2, 6)
    right = _pair(w, v, q, lane, at, 1, 5) + _pair(w, v, q, lane, at, 3, 7)
    return left + right


@inlined
def score4(w, v, q, lane, at):
    """The same for groups of 4."""
    return _pair(w, v, q, lane, at, 0, 2) + _pair(w, v, q, lane, at, 1, 3)
