"""IQ2_XXS: super-blocks of 256 weights; groups of 8 from a grid of 256 points, 7 signs each, a 4-bit scale per 32.

Layout of a super-block, 66 bytes; block ``b`` is weights 32 b .. of the super-block::

    0       2                                                      66
    +-------+------------------------------------------------------+
    | d f16 | 8 x 8 bytes, for block b:                            |
    |       |   byte k, k = 0 .. 3: grid index of its weights 8k.. |
    |       |   word of 32 bits: bits 7k ..: signs of weights 8k   |
    |       |     .. 8k + 6, the 8th makes the number of ones even |
    |       |     bits 28 .. 31: scale of block b                  |
    +-------+------------------------------------------------------+
    weight = d * (0.5 + scale) * 0.25 * grid[index] * sign

Source: ``block_iq2_xxs`` and ``quantize_row_iq2_xxs_impl`` of ggml.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.numerics import nint
from qxmix.quants.grid.encoder import ALWAYS, as_found, grid_codecs
from qxmix.quants.grid.packing import put_group, put_words, store_sign_word
from qxmix.quants.jit import inlined, kernel

BLOCK = 32
NMAX = 4
"""Levels of the first fit, 0 to 4: one more than the grid has, as in the reference."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_TOP = np.float32(NMAX)
_N_TRIALS = 16
_STEPS = np.minimum(np.arange(_N_TRIALS, dtype=np.float32) - _TOP, _TOP) * np.float32(0.1) + _TOP
"""Nine trial scales around the middle one, number 4; the lanes beyond repeat the last."""


@inlined
def _wrapped(level):
    """A level as the reference keeps it: in an unsigned byte, so that -1 becomes 255."""
    return np.float32(np.int32(level) & 255)


@inlined
def _trial_errors(x, w, first, largest, error):
    """Weighted squared error of each trial; the middle one is measured with wrapped levels, as in the reference."""
    for t in range(_N_TRIALS):
        error[t] = _0
    middle, inverse = _0, _TOP / largest
    for e in range(first, first + BLOCK):
        off = x[e] - (_1 / inverse) * _wrapped(nint(inverse * x[e]))
        middle += (w[e] * off) * off
        for t in range(_N_TRIALS):
            trial = _STEPS[t] / largest
            off = x[e] - (_1 / trial) * min(_TOP, nint(trial * x[e]))
            error[t] += (w[e] * off) * off
    error[NMAX] = middle


@inlined
def _improve(x, w, wx, first, level, s1, s2):
    """Move one level after the other to where the others' fit wants it, up to five times; returns the fit."""
    for _ in range(5):
        moved = False
        for i in range(BLOCK):
            e = first + i
            t1, t2 = s1 - wx[e] * level[i], s2 - (w[e] * level[i]) * level[i]
            if t1 > _0 and t2 > _0:
                new = min(_TOP, nint((x[e] * t2) / t1))
                if new != level[i]:
                    t1 += wx[e] * new
                    t2 += (w[e] * new) * new
                    if (t1 * t1) * s2 > (s1 * s1) * t2:
                        level[i], s1, s2, moved = _wrapped(new), t1, t2, True
        if not moved:
            break
    return s1 / s2


@kernel
def _start_at_fit(x, w, wx, largest, live, _top, reach, scale):
    """Trial scales around the best fit of levels 0 to 4 (``make_qp_quants`` of ggml).

    A fit of 0 or NaN makes a zero block, as in llama.cpp; ik_llama.cpp goes on with infinite trial scales.
    """
    error, level = np.empty(_N_TRIALS, np.float32), np.empty(BLOCK, np.float32)
    for b in range(len(live)):
        if not live[b]:
            continue
        first = b * BLOCK
        _trial_errors(x, w, first, largest[b], error)
        kept = NMAX
        for t in range(2 * NMAX + 1):
            kept = t if error[t] < error[kept] else kept
        inverse = _STEPS[kept] / largest[b]
        s1, s2 = _0, _0
        for i in range(BLOCK):
            q = min(_TOP, nint(inverse * x[first + i]))
            s1 += wx[first + i] * q
            s2 += (w[first + i] * q) * q
            level[i] = _wrapped(q)
        scale[b] = _improve(x, w, wx, first, level, s1, s2)
        live[b] = abs(scale[b]) > _0
        reach[b] = scale[b] * np.float32(3.0)


@inlined
def _pack(packed, at, ls, chosen, signs):
    for b in range(8):
        for k in range(4):
            packed[at + 2 + 8 * b + k] = np.uint8(chosen[4 * b + k])
        store_sign_word(packed, at + 6 + 8 * b, signs, 4 * b, ls[b])


@inlined
def _put_eight(data, at, e, scale, signs, values, flat, to):
    put_group(flat, to, scale, values, data[at + 2 + 8 * (e // 4) + e % 4], signs)


CODECS = grid_codecs(
    "IQ2_XXS", n=8, block=BLOCK, n_wanted=2, trials=6, trial_step=0.1, eps=1e-15, even=True, floor=0.25,
    sigma_factor=1.0, again=ALWAYS, start=_start_at_fit, fit=as_found, pack=_pack,
    put=put_words(6, 8, 0.25, _put_eight), nbytes=66, factor=1.0, unit=0.125, n_tried=5,
)  # fmt: skip
