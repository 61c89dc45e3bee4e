"""Confidence sequences: intervals that hold at all times at once, so that one may look always.

An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", 2021, theorem 2.2) of a mean after t
observations of standard error e is mean ± k·e with

    k = sqrt((1 + 1/(tρ²)) · 2 ln(sqrt(tρ² + 1) / α)),                      on both sides,
    k = sqrt((1 + 1/(tρ²)) · 2 ln(1 + sqrt(tρ² + 1) / (2α))),               on one (their B.1),

and is tightest where t is the size that it is tuned for: tρ² = −W₋₁(−α²/e) − 1 there, with W₋₁ of
Lambert.

Events of one entity resemble each other. Counted as independent they would make an interval far too
narrow, so the standard error is that of sums over clusters (Liang and Zeger 1986, for a ratio of
sums), and t is the *effective* number of events: as many independent ones would give that error.
Few or unequal clusters leave the error itself uncertain: k becomes the quantile of Student's t of
as large a tail, with the effective number of clusters, (Σn)²/Σn² (Carter, Schnepel and Steigerwald
2017), less one as degrees of freedom.

Entities are put into :data:`BUCKETS` by their hash, and a bucket is a cluster: whole entities, so
the buckets are independent, and the memory is bounded whatever the number of entities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw, ndtr, ndtri, stdtrit

from streams.assignment import places_of

BUCKETS = 256

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BUCKET_SALT = "kappa-cluster"  # apart from every experiment's, or an arm would fill few buckets


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and how well it is known.

    ``error`` is its standard error, ``n`` the observations, ``effective`` as many independent ones
    as would give that error, ``clusters`` the effective number of clusters.
    """

    mean: float
    error: float
    n: int
    effective: float
    clusters: float

    @property
    def design_effect(self) -> float:
        """By how much dependence within entities multiplies the variance."""
        return self.n / self.effective if self.effective else 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """An interval; one-sided where a bound is infinite."""

    low: float
    high: float


NOTHING = Estimate(0.0, math.inf, 0, 0.0, 0.0)
"""What is known before the first two clusters have come."""


def buckets_of(entities: Sequence[str]) -> Ints:
    """Return the bucket of each entity, shape (n,), in [0, :data:`BUCKETS`)."""
    return (places_of(_BUCKET_SALT, entities) * BUCKETS).astype(np.int64)


def estimate(counts: Floats, sums: Floats, squares: float) -> Estimate:
    """Return the mean of observations from sums over their clusters.

    Args:
        counts: observations in each cluster, (c,); clusters without any are left out.
        sums: of their values, (c,).
        squares: the sum of all squared values.
    """
    n = float(counts.sum())
    c = int(np.count_nonzero(counts))
    if c < 2:
        return NOTHING
    mean = float(sums.sum()) / n
    # Sums of differences of large numbers: not below 0, and 0 only where all values are the same.
    between = float(np.sum((sums - mean * counts) ** 2)) * c / (c - 1)
    within = max(0.0, squares - n * mean**2) / (n - 1)
    error = math.sqrt(between) / n
    effective = n if between <= 0 else min(n, within * n**2 / between)
    return Estimate(mean, error, int(n), effective, n**2 / float(counts @ counts))


def estimate_of(values: Floats, buckets: Ints | None = None) -> Estimate:
    """Return the mean of ``values`` (n,), in clusters ``buckets`` (n,); each its own by default.

    >>> found = estimate_of(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> found.mean, round(found.error, 4)
    (2.5, 0.6455)
    """
    squares = float(values @ values)
    if buckets is None:
        return estimate(np.ones(len(values)), values, squares)
    _, codes = np.unique(buckets, return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    sums: Floats = np.bincount(codes, values).astype(np.float64)
    return estimate(counts, sums, squares)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return the mean of ``a`` less that of ``b``, which is independent of it.

    Its clusters are Welch's and Satterthwaite's degrees of freedom plus one.
    """
    if a.clusters < 2 or b.clusters < 2:
        return NOTHING
    variance = a.error**2 + b.error**2
    parts = a.error**4 / (a.clusters - 1) + b.error**4 / (b.clusters - 1)
    clusters = 1 + variance**2 / parts if parts else min(a.clusters, b.clusters)
    effective = a.effective * b.effective / (a.effective + b.effective)
    return Estimate(a.mean - b.mean, math.sqrt(variance), a.n + b.n, effective, clusters)


def multiplier(effective: float, tuned: float, alpha: float, sides: int = 2) -> float:
    """Return k: how many standard errors a limit lies from the mean.

    Args:
        effective: independent observations so far; below 1 it is infinite.
        tuned: where the sequence is to be tightest.
        alpha: the probability that it ever misses the mean.
        sides: 2, or 1 for a limit on one side.
    """
    if effective < 1:
        return math.inf
    level = alpha if sides == 2 else 2 * alpha
    v = effective / tuned * _tuning(level)
    if sides == 2:
        log = math.log(math.sqrt(v + 1) / alpha)
    else:
        log = math.log1p(math.sqrt(v + 1) / (2 * alpha))
    return math.sqrt((1 + 1 / v) * 2 * log)


def sequence(found: Estimate, tuned: float, alpha: float) -> Limits:
    """Return the limits between which the mean always lies but with probability ``alpha``."""
    reach = _reach(found, multiplier(found.effective, tuned, alpha))
    return Limits(found.mean - reach, found.mean + reach)


def lower_limit(found: Estimate, tuned: float, alpha: float) -> float:
    """Return what the mean is always above but with probability ``alpha``."""
    return found.mean - _reach(found, multiplier(found.effective, tuned, alpha, sides=1))


def upper_limit(found: Estimate, tuned: float, alpha: float) -> float:
    """Return what the mean is always below but with probability ``alpha``."""
    return found.mean + _reach(found, multiplier(found.effective, tuned, alpha, sides=1))


def fixed_interval(found: Estimate, alpha: float) -> Limits:
    """Return the usual interval, which holds at one size that was stated before, and only there."""
    reach = _reach(found, float(-ndtri(alpha / 2)))
    return Limits(found.mean - reach, found.mean + reach)


def fixed_size(deviation: float, effect: float, alpha: float, power: float, sides: int = 2) -> int:
    """Return the observations that a test at one stated size needs: ((z_α + z_β)·σ/δ)².

    Of two arms each needs twice as many.

    >>> fixed_size(1.0, 0.1, 0.05, 0.8)
    785
    """
    z = float(-ndtri(alpha / sides) + ndtri(power))
    return math.ceil((z * deviation / effect) ** 2)


def to_json(found: Estimate) -> dict[str, Any]:
    """Return the figures for the evidence of a verdict."""
    return {
        "mean": figure(found.mean),
        "error": figure(found.error),
        "n": found.n,
        "effective": figure(found.effective),
        "clusters": figure(found.clusters),
    }


def figure(value: float) -> float | None:
    """Return ``value`` with six digits; None where there is no finite one."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _reach(found: Estimate, k: float) -> float:
    if found.clusters < 2 or not math.isfinite(k):
        return math.inf
    tail = float(ndtr(-k))
    return float(-stdtrit(found.clusters - 1, tail)) * found.error


@lru_cache(maxsize=64)
def _tuning(alpha: float) -> float:
    """Return tρ² at the size for which the sequence is to be tightest."""
    if alpha >= 1:
        return 1.0
    return float(-lambertw(-(alpha**2) / math.e, -1).real - 1)
