"""The population stability index (PSI) of binned counts, and what chance gives.

PSI = Σ (q − p)·ln(q / p) over the bins, p the reference's shares and q the window's: how large a
difference is. Where both come from one distribution, PSI is close to (1/n_ref + 1/n)·χ² with B − 1
degrees of freedom (Yurdakul and Naranjo, "Statistical properties of the population stability
index", 2020), so a fixed threshold alone raises false alarms in small windows.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.dispersion import Variation

SMOOTHING = 0.5
MODERATE, MAJOR = 0.1, 0.2
"""The classic bands (Siddiqi 2006): below the first nothing, from the second on a major shift."""

Band = Literal["none", "moderate", "major"]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_INDEPENDENT = Variation()


def psi(expected: Counts, observed: Counts) -> float:
    """Return the PSI of two vectors of counts over the same bins.

    Bins that are empty on both sides say nothing and are left out; half an observation is added
    to each other bin, so that an empty one does not make the index infinite.

    >>> round(psi(np.array([50, 50]), np.array([80, 20])), 3)
    0.406
    """
    return float(contributions(expected[None], observed[None]).sum())


def contributions(expected: Counts, observed: Counts) -> Floats:
    """Return what each bin adds to the PSI, of F features at once: all are (F, bins)."""
    used = (expected + observed) > 0
    p, q = (_shares(counts, used) for counts in (expected, observed))
    result = np.zeros(p.shape)
    np.divide(q, p, out=result, where=used)
    np.log(result, out=result, where=used)
    result *= q - p
    return result


def critical_value(
    n_reference: int, n: int, bins: int, alpha: float, variation: Variation = _INDEPENDENT
) -> float:
    """Return the PSI that is exceeded with probability ``alpha`` where nothing has drifted.

    ``variation`` is how much the feature moves by itself in a window like this
    (:mod:`training.dispersion`); without it, events are taken as independent.
    """
    from scipy.stats import chi2, f

    if bins < 2 or not n or not n_reference:
        return 0.0
    noise = 1 / n_reference + 1 / n
    if not variation.comparisons:
        return float(noise * chi2.ppf(1 - alpha, bins - 1))
    freedom = min(variation.freedom, bins - 1)
    quantile = f.isf(alpha, freedom, freedom * variation.comparisons)
    return float(noise * (bins - 1) * variation.factor * quantile)


def band(value: float) -> Band:
    """Return the classic word for a PSI."""
    if value < MODERATE:
        return "none"
    return "moderate" if value < MAJOR else "major"


def _shares(counts: Counts, used: NDArray[np.bool_]) -> Floats:
    smoothed = (counts + SMOOTHING) * used
    totals = smoothed.sum(axis=1, keepdims=True)
    shares: Floats = smoothed / np.where(totals > 0, totals, 1.0)
    return shares
