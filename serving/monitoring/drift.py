"""Data drift: the population stability index (PSI) of binned counts, and what chance gives.

PSI = Σ (q − p)·ln(q / p) over the bins, p the reference's shares and q the window's. Where both
come from one distribution, PSI is close to (1/n_ref + 1/n)·χ² with B − 1 degrees of freedom
(Yurdakul and Naranjo, "Statistical properties of the population stability index", 2020), so a
fixed threshold alone raises false alarms in small windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from streams.wire import ShiftedBin

ALPHA = 0.01
SMOOTHING = 0.5

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison of one feature: PSI, and the PSI that chance exceeds with probability α."""

    feature: str
    psi: float
    critical: float
    n: int
    n_reference: int
    bins: int
    chance: float = 1.0

    def alarming(self, threshold: float) -> bool:
        """Return whether the difference both matters and is beyond chance."""
        return self.psi >= threshold and self.psi > self.critical


def psi(expected: Counts, observed: Counts) -> float:
    """Return the PSI of two vectors of counts over the same bins.

    Bins that are empty on both sides say nothing and are left out; half an observation is added
    to each other bin, so that an empty one does not make the index infinite.

    >>> round(psi(np.array([50, 50]), np.array([80, 20])), 3)
    0.402
    """
    p, q = _shares(expected, observed)
    return float(np.sum((q - p) * np.log(q / p))) if len(p) > 1 else 0.0


def critical_value(n_reference: int, n: int, bins: int, alpha: float) -> float:
    """Return the PSI that is exceeded with probability ``alpha`` where nothing has drifted."""
    if bins < 2 or not n or not n_reference:
        return 0.0
    return float((1 / n_reference + 1 / n) * chi2.ppf(1 - alpha, bins - 1))


def compare(
    expected: Mapping[str, Counts], observed: Mapping[str, Counts], alpha: float = ALPHA
) -> list[Drift]:
    """Return the comparison of each feature that ``observed`` has, in its order.

    ``alpha`` is the chance of any false alarm among them: each is judged at alpha / features.
    """
    each = alpha / max(1, len(observed))
    results = []
    for feature, counts in observed.items():
        reference = expected[feature]
        bins = int(np.count_nonzero(reference + counts))
        n_reference, n = int(reference.sum()), int(counts.sum())
        critical = critical_value(n_reference, n, bins, each)
        value = psi(reference, counts)
        chance = chance_of(value, n_reference, n, bins)
        results.append(Drift(feature, value, critical, n, n_reference, bins, chance))
    return results


def chance_of(value: float, n_reference: int, n: int, bins: int) -> float:
    """Return how probable so large a PSI is where nothing has drifted."""
    if bins < 2 or not n or not n_reference:
        return 1.0
    return float(chi2.sf(value / (1 / n_reference + 1 / n), bins - 1))


def shifted_bins(
    expected: Counts, observed: Counts, labels: Sequence[str] | None, most: int = 3
) -> tuple[ShiftedBin, ...]:
    """Return the bins that add most to the PSI, the first the most."""
    p = (expected + SMOOTHING) / (expected + SMOOTHING).sum()
    q = (observed + SMOOTHING) / (observed + SMOOTHING).sum()
    order = np.argsort(-(q - p) * np.log(q / p), kind="stable")[:most].tolist()
    texts = [str(i) for i in range(len(p))] if labels is None else labels
    shares = expected / max(1, expected.sum()), observed / max(1, observed.sum())
    return tuple(ShiftedBin(texts[i], float(shares[0][i]), float(shares[1][i])) for i in order)


def _shares(expected: Counts, observed: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    used = (expected + observed) > 0
    p = expected[used] + SMOOTHING
    q = observed[used] + SMOOTHING
    return p / p.sum(), q / q.sum()
