"""Intervals of 95 % and chances of means and shares, from sums, with what depends on time in mind.

Rows are taken for independent of each other, except where the sums of several steps of time are
there: then the spread of the steps' own means is looked at too, and the larger of the two errors
counts, with Student's t at steps − 1 degrees of freedom (batch means, Law and Kelton 1984). So what
lasts for less than a step, or sets a day apart, widens an interval. What belongs to one entity and
lasts for longer than the window does not: nobody knows it from sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Z95 = 1.959963984540054
FEWEST_STEPS = 5
"""Of fewer steps than this their spread is not known well enough to be used."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A figure with its interval; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the figure is a number at all."""
        return math.isfinite(self.value)


@dataclass(frozen=True, slots=True)
class Error:
    """A standard error, and the degrees of freedom that it is known with (inf: as a normal's)."""

    size: float
    freedom: float = math.inf

    def half(self) -> float:
        """Return half of the width of an interval of 95 %."""
        quantile = Z95 if math.isinf(self.freedom) else float(stdtrit(self.freedom, 0.975))
        return quantile * self.size

    def chance(self, difference: float) -> float:
        """Return how probable a difference as large, or larger, is where there is none; one-sided.

        >>> round(Error(1.0).chance(1.6448536), 3)
        0.05
        """
        if not self.size > 0 or math.isinf(self.size):
            return 1.0 if self.size > 0 or difference <= 0 else 0.0
        z = -difference / self.size
        if math.isinf(self.freedom):
            return 0.5 * math.erfc(-z / math.sqrt(2))
        return float(stdtr(self.freedom, z))

    def larger(self, other: Error) -> Error:
        """Return the one that gives the wider interval."""
        return self if self.half() >= other.half() else other


def error_of_steps(sums: Floats, counts: Ints) -> Error:
    """Return the standard error of Σ sums / Σ counts from the steps' own, shapes (steps,); 0 where
    there are too few steps.

    A ratio's variance, linearised: Σ (sᵢ − R·nᵢ)² · m / (m − 1) / N² of m steps.
    """
    filled = counts > 0
    m, total = int(filled.sum()), float(counts.sum())
    if m < FEWEST_STEPS:
        return Error(0.0)
    ratio = float(sums.sum()) / total
    residuals = (sums - ratio * counts)[filled]
    return Error(math.sqrt(float(residuals @ residuals) * m / (m - 1)) / total, m - 1)


def of_mean(mean: float, error: Error) -> Bounds:
    """Return a mean with its interval."""
    half = error.half()
    if not math.isfinite(half):
        return Bounds(mean)
    return Bounds(mean, mean - half, mean + half)


def of_size(signed: float, error: Error) -> Bounds:
    """Return |signed| with an interval: 0 is in it where the signs of the bounds differ."""
    half = error.half()
    if not math.isfinite(half):
        return Bounds(abs(signed))
    low, high = signed - half, signed + half
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Bounds(abs(signed), least, max(abs(low), abs(high)))


def of_share(hits: float, n: float, inflation: float = 1.0, z: float = Z95) -> Bounds:
    """Return a share with Wilson's interval (1927), good for small n and shares near 0 and 1.

    ``inflation`` is by how much its variance is larger than that of independent rows.

    >>> [round(x or 0, 3) for x in (of_share(0, 10).low, of_share(0, 10).high)]
    [0, 0.278]
    """
    if n <= 0:
        return Bounds(math.nan)
    share, size, z2 = hits / n, n / inflation, z * z
    center = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = z * math.sqrt(share * (1 - share) / size + z2 / (4 * size * size)) / (1 + z2 / size)
    low = 0.0 if hits == 0 else max(0.0, center - half)
    high = 1.0 if hits == n else min(1.0, center + half)
    return Bounds(share, low, high)


def inflation_of(hits: Ints, counts: Ints) -> float:
    """Return by how much the variance of a share over steps (steps,) exceeds that of independent
    rows (the design effect), at least 1, and 1 where there are too few steps."""
    n = int(counts.sum())
    share = float(hits.sum()) / n if n else 0.0
    independent = share * (1 - share) / n if n else 0.0
    if not independent:
        return 1.0
    error = error_of_steps(hits.astype(np.float64), counts)
    # Student's wider tails are part of it: an interval knows no degrees of freedom afterwards.
    return max(1.0, (error.half() / Z95) ** 2 / independent)


def difference_of_shares(one: Bounds, other: Bounds) -> Bounds:
    """Return one − other with Newcombe's interval (1998, method 10) from Wilson's of both.

    >>> found = difference_of_shares(of_share(56, 70), of_share(48, 80))
    >>> [round(x or 0, 4) for x in (found.value, found.low, found.high)]
    [0.2, 0.0524, 0.3339]
    """
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Bounds(value)
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Bounds(value, value - below, value + above)
