"""The test of groups of weights for a lattice: whole multiples of a scale, beside a minimum or not."""

from __future__ import annotations

import numpy as np

from qxmix.quants.jit import kernel


@kernel
def _error(value, size, share, least):
    """By how much a weight may miss its multiple: twice the rounding of a float of this size."""
    return 2.0 * share * (abs(value) + size) + 2.0 * least


@kernel
def _fits(x, m, size, step, share, least):
    """Whether all weights of a group are multiples of ``step`` above ``m``; most that are none fail at the first."""
    for e in range(len(x)):
        v = np.float64(x[e]) - m
        if abs(v - step * np.rint(v / step)) > _error(np.float64(x[e]), size, share, least):
            return False
    return True


@kernel
def _by_chance(x, size, step, share, least, k):
    """Logarithm of the chance that weights on no lattice fit this one, or one of the ``k`` tried in both signs."""
    total = np.log(2.0 * k)
    for e in range(len(x)):
        total += np.log(min(1.0, 2.0 * _error(np.float64(x[e]), size, share, least) / step))
    return total


@kernel
def _rounding(value, share, least):
    """Half a unit in the last place of a stored weight, and a thousandth for the product that was rounded."""
    return max(1.001 * share * 2.0 ** np.floor(np.log2(abs(value))), least) if value != 0.0 else 0.0


@kernel
def _fits_closely(x, size, k, share, least):
    """The step of which all weights are multiples, to half a unit each, and the largest the ``k``-th; 0 if none.

    The largest weight is rounded, too, so that its part is known only to within some 1/256; steps from end to end of
    that are tried, so close that the multiples of the right one come out.
    """
    half = _rounding(size, share, least)
    n_trials = 1 + k // 16
    for i in range(n_trials):
        trial = (size + half * (2.0 * (i + 0.5) / n_trials - 1.0)) / k
        low, high = (size - half) / k, (size + half) / k
        for e in range(len(x)):
            v = abs(np.float64(x[e]))
            q, room = np.rint(v / trial), _rounding(v, share, least)
            if q == 0.0:
                high = high if v == 0.0 else 0.0
            else:
                low, high = max(low, (v - room) / q), min(high, (v + room) / q)
            if low > high:
                break
        if low <= high:
            return 0.5 * (low + high)
    return 0.0


@kernel
def _by_chance_closely(x, step, share, least, k):
    """``_by_chance`` of ``_fits_closely``."""
    total = np.log(2.0 * k * (1 + k // 16))
    for e in range(len(x)):
        room = _rounding(np.float64(x[e]), share, least)
        total += np.log(min(1.0, 2.0 * room / step)) if room > 0.0 else 0.0
    return total


@kernel
def fit_groups(x, share, least, minimum, most_k, tells_nothing, d, m, whole):
    """Fit a lattice to each group ``x`` (n_groups, n) float32, the smallest number of steps first.

    Args:
        x: The groups.
        share: Largest error of storing a weight, as a share of it.
        least: The same where it is subnormal.
        minimum: Whether multiples count from the least weight, else from 0.
        most_k: Steps from 0 or the minimum to the extreme that are tried.
        tells_nothing: Logarithm of the chance from which on a fit of a group says nothing.
        d: (n_groups,) float64 scales, written; 0 where all weights are equal and there is a minimum, or are 0.
        m: (n_groups,) float64 minima, written; 0 without.
        whole: (2,) int64 least and largest multiple, written.

    Returns:
        Whether all groups fit, and the logarithm of the chance that weights on no lattice do.

    """
    chance = 0.0
    whole[0] = whole[1] = 0
    for g in range(x.shape[0]):
        group = x[g]
        low = high = np.float64(group[0])
        for e in range(len(group)):
            low, high = min(low, np.float64(group[e])), max(high, np.float64(group[e]))
        size, m[g], d[g] = max(abs(low), abs(high)), low if minimum else 0.0, 0.0
        span = high - low if minimum else size
        if span == 0.0:
            continue
        extra, found = size if minimum else 0.0, False
        for k in range(1, most_k + 1):
            step = span / k
            if not _fits(group, m[g], extra, step, share, least):
                continue
            by_chance = _by_chance(group, extra, step, share, least, k)
            if by_chance >= tells_nothing and not minimum:
                # Multiples of so many bits lie as close as stored weights do, but for the small ones.
                step = _fits_closely(group, size, k, share, least)
                by_chance = _by_chance_closely(group, step, share, least, k) if step > 0.0 else 0.0
            if by_chance < tells_nothing:
                d[g], found = step, True
                chance += by_chance
                break
        if not found:
            return False, chance
        whole[0] = min(whole[0], np.int64(np.rint((low - m[g]) / d[g])))
        whole[1] = max(whole[1], np.int64(np.rint((high - m[g]) / d[g])))
    return True, chance
