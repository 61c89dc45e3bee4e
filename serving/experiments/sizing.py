"""How many entities an experiment needs, and what it can find with those that it has.

A difference of means of two independent arms has variance σ₁²/n₁ + σ₂²/n₂, and is told from none
with probability ``power`` by a two-sided test of level α where that variance is
(δ/(Z_{α/2} + Z_β))², Z the upper quantiles of the standard normal. In equal arms of equal spread:

    n per arm = (Z_{α/2} + Z_β)² · 2σ²/δ²        (Fleiss, Levin and Paik 2003, ch. 4; Kohavi, Tang
                                                   and Xu 2020, ch. 15).

Proportions have σ² = p(1 − p), another in each arm. The test of two proportions (chi-squared)
takes the *pooled* share for its critical value, as here by default; *unpooled*, each arm's own.
Normal quantiles, not Student's: of n = 20 per arm the size is one too small, of hundreds none.

Several treatments against one control: each comparison is made at α/k (Bonferroni), with which the
sizes hold; the analysis takes Holm's steps, which find no less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from streams.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be found: a difference of ``effect`` (absolute) at level ``alpha``, with
    probability ``power``, in each of ``metrics`` of each of ``treatments``.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    effect: float
    alpha: float = 0.05
    power: float = 0.8
    treatments: int = 1
    metrics: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not math.isfinite(self.effect) or self.effect == 0:
            raise ConfigurationError(
                f"effect {self.effect}: the smallest difference worth finding, not 0"
            )
        if not 0 < self.alpha < 1 or not self.alpha < self.power < 1:
            raise ConfigurationError(
                f"alpha {self.alpha} and power {self.power}: 0 < alpha < power < 1, for example "
                ".05 and .8"
            )
        if self.treatments < 1 or self.metrics < 1:
            raise ConfigurationError(
                f"{self.treatments} treatments and {self.metrics} metrics: at least 1 each"
            )

    @property
    def comparisons(self) -> int:
        """How many tests are made; the level is shared out among them."""
        return self.treatments * self.metrics

    @property
    def level(self) -> float:
        """The level of each comparison."""
        return self.alpha / self.comparisons

    @property
    def quantiles(self) -> float:
        """Z_{α/2} + Z_β."""
        return _z(self.level / 2) + _z(1 - self.power)

    @property
    def variance(self) -> float:
        """The variance that the difference must have come down to."""
        return (self.effect / self.quantiles) ** 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entities per arm, not rounded: of the control, and of each treatment."""

    control: float
    treatment: float
    treatments: int = 1

    @property
    def total(self) -> int:
        """Entities in all arms, each rounded up."""
        return math.ceil(self.control) + self.treatments * math.ceil(self.treatment)


def absolute(effect: float, baseline: float | None, relative: bool) -> float:
    """Return the effect in units of the metric.

    Raises:
        ConfigurationError: a relative effect has nothing to be relative to.

    >>> absolute(0.05, 0.2, relative=True)
    0.010000000000000002
    """
    if not relative:
        return effect
    if not baseline or not math.isfinite(baseline):
        raise ConfigurationError(
            f"a relative effect of {effect:g} on a baseline of {baseline}: state --baseline, not "
            "0, or give the effect in units of the metric"
        )
    return effect * abs(baseline)


def for_means(aim: Aim, sigma: float, share: float | None = None) -> Sizes:
    """Return the sizes for a difference of means with standard deviation ``sigma`` in each arm.

    ``share`` of the entities goes to each treatment, the rest to the control; None: equal arms.

    Raises:
        ConfigurationError: the share leaves the control nothing, or ``sigma`` is not above 0.

    >>> round(for_means(Aim(effect=0.1), sigma=1.0).treatment, 1)
    1569.8
    """
    if not 0 < sigma < math.inf:
        raise ConfigurationError(
            f"standard deviation {sigma}: above 0; all entities alike can't be compared"
        )
    treated, control = shares(aim.treatments, share)
    total = sigma**2 * (1 / treated + 1 / control) / aim.variance
    return Sizes(total * control, total * treated, aim.treatments)


def for_proportions(
    aim: Aim, baseline: float, share: float | None = None, pooled: bool = True
) -> Sizes:
    """Return the sizes for a share that is ``baseline`` in the control, and by the effect another
    one in a treatment; ``share`` as of :func:`for_means`.

    Raises:
        ConfigurationError: one of the two shares is not between 0 and 1.

    >>> round(for_proportions(Aim(effect=0.02), baseline=0.1).treatment)
    3841
    """
    other = baseline + aim.effect
    if not 0 < baseline < 1 or not 0 < other < 1:
        raise ConfigurationError(
            f"a share of {baseline:g} that becomes {other:g}: both must lie between 0 and 1; "
            "state another --effect or --baseline"
        )
    treated, control = shares(aim.treatments, share)
    own = other * (1 - other) / treated + baseline * (1 - baseline) / control
    null = own
    if pooled:
        mean = (treated * other + control * baseline) / (treated + control)
        null = mean * (1 - mean) * (1 / treated + 1 / control)
    spread = _z(aim.level / 2) * math.sqrt(null) + _z(1 - aim.power) * math.sqrt(own)
    total = (spread / aim.effect) ** 2
    return Sizes(total * control, total * treated, aim.treatments)


def shares(treatments: int, share: float | None) -> tuple[float, float]:
    """Return the shares of each treatment and of the control; equal where ``share`` is None.

    Raises:
        ConfigurationError: nothing is left for the control.
    """
    treated = 1 / (treatments + 1) if share is None else share
    control = 1 - treatments * treated
    if not 0 < treated < 1 or control < 1e-9:
        raise ConfigurationError(
            f"share {treated:g} for each of {treatments} treatments leaves the control "
            f"{max(0.0, control):g} of the entities: state at most {0.99 / treatments:.2g}"
        )
    return treated, control


def power_of(aim: Aim, error: float) -> float:
    """Return the probability of finding the effect where the difference has standard error
    ``error``; the far tail counts too.

    >>> round(power_of(Aim(effect=0.1), error=(2 / 1569.8) ** 0.5), 3)
    0.8
    """
    z, shift = _z(aim.level / 2), abs(aim.effect) / error
    return float(ndtr(shift - z) + ndtr(-shift - z))


def detectable(aim: Aim, error: float) -> float:
    """Return the smallest effect that is found with the power wanted, at that standard error."""
    return aim.quantiles * error


def days_for(entities: float, per_day: float) -> float:
    """Return how many days bring so many new entities; infinite where none come."""
    return entities / per_day if per_day > 0 else math.inf


def span_for(entities: int, last_seen_ms: Sequence[int], end_ms: int) -> float | None:
    """Return how many of the last days hold so many distinct entities; None where all do not.

    ``last_seen_ms`` is when each entity was last seen: those of the last d days were last seen in
    them, so the answer is exact, however often the same ones come again.

    >>> day = 86_400_000
    >>> span_for(2, [10 * day, 9 * day, 4 * day], end_ms=10 * day)
    1.0
    """
    if entities > len(last_seen_ms) or entities < 1:
        return None
    since = sorted(last_seen_ms, reverse=True)[entities - 1]
    return max(0, end_ms - since) / 86_400_000


def _z(tail: float) -> float:
    """Return the upper quantile of the standard normal distribution."""
    return float(-ndtri(tail))
