"""Pearson's chi-squared test that two vectors of counts come from one distribution.

X² is that of ``scipy.stats.chi2_contingency`` on the 2 × B table (Pearson 1900), without Yates'
correction. How large the difference is, says Cramér's V = √(X² / N), in [0, 1] for two rows.
"""

import numpy as np
from numpy.typing import NDArray

LEAST_EXPECTED = 5.0
"""Bins in which fewer are expected on either side are taken together (Cochran 1954): their X²
would be far from a chi-squared one in the tails, where alarms are decided."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def statistics(expected: Counts, observed: Counts) -> tuple[Floats, Floats]:
    """Return (X², degrees of freedom), each (F,), of counts (F, bins) of F features.

    Bins empty on both sides are left out; where one side is empty altogether both are 0.
    """
    n_expected = expected.sum(axis=1, keepdims=True).astype(np.float64)
    n_observed = observed.sum(axis=1, keepdims=True).astype(np.float64)
    both = (n_expected > 0) & (n_observed > 0)
    used = ((expected + observed) > 0) & both
    pooled = (expected + observed) / np.maximum(n_expected + n_observed, 1)
    shares = expected / np.maximum(n_expected, 1), observed / np.maximum(n_observed, 1)
    difference = (shares[1] - shares[0]) ** 2
    terms = np.divide(difference, pooled, out=np.zeros_like(pooled), where=used)
    weight = n_expected * n_observed / np.maximum(n_expected + n_observed, 1)
    statistic: Floats = terms.sum(axis=1) * weight[:, 0]
    freedom: Floats = np.maximum(used.sum(axis=1) - 1.0, 0.0)
    return statistic, freedom


def rare_together(expected: Counts, observed: Counts) -> tuple[Counts, Counts]:
    """Return counts (F, bins + 1) in which rare bins are empty and stand, summed, in the last."""
    totals = expected.sum(axis=1, keepdims=True), observed.sum(axis=1, keepdims=True)
    smaller = np.minimum(*totals)
    together = (expected + observed) / np.maximum(totals[0] + totals[1], 1) * smaller
    rare = together < LEAST_EXPECTED
    return _moved(expected, rare), _moved(observed, rare)


def chances(
    statistic: Floats, freedom: Floats, factors: Floats, freedoms: Floats, comparisons: Floats
) -> Floats:
    """Return the p-values (F,) of X² with the noise of :class:`training.dispersion.Variation`.

    Where nothing is known of it (no comparisons) events are taken as independent: chi-squared.
    Else X² / (freedom · factor) is F with d and d · comparisons degrees of freedom, d what the
    feature's movements have (``freedoms``) and at most ``freedom``.
    """
    from scipy.special import chdtrc, fdtrc

    known = np.maximum(freedom, 1.0)
    alone = chdtrc(known, statistic)
    d = np.minimum(freedoms, known)
    second = d * np.maximum(comparisons, 1.0)
    shared = fdtrc(d, second, statistic / (known * factors))
    p: Floats = np.where(comparisons > 0, shared, alone)
    return np.where(freedom > 0, p, 1.0)


def _moved(counts: Counts, rare: NDArray[np.bool_]) -> Counts:
    last = np.where(rare, counts, 0).sum(axis=1, keepdims=True)
    return np.concatenate([np.where(rare, 0, counts), last], axis=1)
