"""The two-sample Kolmogorov–Smirnov distance: the largest gap between two distribution functions.

Exactly, against a reference that was sorted once; or of counts in bins that both share, which add
up over partitions and steps. Between the edges of a bin a gap may be larger than at the edges, by
at most the bin's share: with 120 quantiles by less than .01.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def ks(reference_sorted: Floats, sample: Floats) -> float:
    """Return the distance of a sample (n,) from an ascending reference (m,), both without NaN.

    >>> ks(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    m, n = len(reference_sorted), len(sample)
    if not m or not n:
        return 0.0
    values = np.sort(sample)
    upto = np.searchsorted(reference_sorted, values, side="right")
    below = _without_ties(reference_sorted, values, upto)
    ranks = np.arange(n)
    above = (ranks + 1) / n - upto / m  # at each value, of ties the last one counts
    under = below / m - ranks / n  # just below it, of ties the first one
    return float(max(above.max(), under.max()))


def ks_of_counts(expected: Counts, observed: Counts) -> Floats:
    """Return the distances (F,) of counts (F, bins), bins ascending; 0 where one side is empty."""
    n_expected, n_observed = expected.sum(axis=-1), observed.sum(axis=-1)
    one = np.cumsum(expected, axis=-1) / np.maximum(n_expected, 1)[..., None]
    other = np.cumsum(observed, axis=-1) / np.maximum(n_observed, 1)[..., None]
    gaps: Floats = np.abs(one - other).max(axis=-1)
    return np.where((n_expected > 0) & (n_observed > 0), gaps, 0.0)


def ks_chance(distance: Floats, m: Floats, n: Floats, factor: Floats | float = 1.0) -> Floats:
    """Return how probable a distance this large is where both samples are of one distribution.

    The limit for many values (Kolmogorov 1933; Smirnov 1939) at m·n / (m + n) of them, divided by
    ``factor``: how many times as much the distribution function moves as for independent values.
    With bins, or with values that repeat, the true probability is smaller.
    """
    from scipy.special import kolmogorov

    effective = m * n / np.maximum(m + n, 1) / factor
    p: Floats = kolmogorov(np.sqrt(effective) * distance)
    return p


def _without_ties(reference: Floats, values: Floats, upto: Counts) -> Counts:
    """Return how many of the reference are below each value: ``upto`` where none equals it."""
    tied = (upto > 0) & (reference[upto - 1] == values)
    if not tied.any():
        return upto
    below = upto.copy()
    below[tied] = np.searchsorted(reference, values[tied], side="left")
    return below
