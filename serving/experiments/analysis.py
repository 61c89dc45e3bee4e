"""The difference that an arm makes: Welch's test, chi-squared, CUPED, Holm, sequential intervals.

All of it works on one value per entity (:func:`serving.experiments.metrics.of_entities`).

- Welch's t-test (1947): arms of unequal variance, degrees of freedom after Satterthwaite.
- CUPED (Deng, Xu, Kohavi and Walker 2013): a value x of each entity from before the experiment,
  which no arm can have changed, tells part of what y will be. y − θ(x − x̄) has the same mean and,
  with θ = cov(x, y)/var(x) taken within the arms, the variance (1 − ρ²) times that of y.
  An entity without a past gets x̄: nothing is known of it.
- Holm's steps (1979): of m p-values the k-th smallest is multiplied by m − k + 1; the chance of a
  single false find among all of them stays below α.
- Sequential: the difference after more and more data is, on the scale of its information
  (1/variance), a Brownian motion with drift (Scharfstein, Tsiatis and Robins 1997), the process
  whose boundary :mod:`serving.rollout.statistics` gives. So entities may bring more events while
  it runs, and one may look at all times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, stdtr

from serving.experiments.sizing import Aim
from serving.rollout.statistics import (
    Estimate,
    Limits,
    difference,
    estimate_of,
    figure,
    fixed_interval,
    sequence,
)

Floats = NDArray[np.float64]

PLANNED = 1_000.0  # observations as which the planned information counts; any number does


@dataclass(frozen=True, slots=True)
class Effect:
    """What a treatment changes against the control, in units of the metric.

    ``difference`` is treatment less control; ``fixed`` holds at one size stated before,
    ``sequential`` at all times, both at the level of one comparison. ``p`` is Welch's, ``holm`` the
    same after Holm's steps over all comparisons, ``chi_squared`` that of the table of counts where
    all values are 0 or 1.
    """

    control: Estimate
    treatment: Estimate
    difference: Estimate
    fixed: Limits
    sequential: Limits
    p: float
    holm: float
    chi_squared: float | None = None

    @property
    def relative(self) -> float | None:
        """The difference as a share of the control's mean."""
        return self.difference.mean / abs(self.control.mean) if self.control.mean else None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            "control": {"mean": figure(self.control.mean), "n": self.control.n},
            "treatment": {"mean": figure(self.treatment.mean), "n": self.treatment.n},
            "difference": figure(self.difference.mean),
            "relative": None if self.relative is None else figure(self.relative),
            "error": figure(self.difference.error),
            "fixed": [figure(self.fixed.low), figure(self.fixed.high)],
            "sequential": [figure(self.sequential.low), figure(self.sequential.high)],
            "p": self.p,
            "holm": self.holm,
            "chi_squared": self.chi_squared,
        }


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Values of each arm with what was known before taken out.

    ``reduction`` is the share of the variance within arms that is gone, ``known`` the share of the
    entities that have a past.
    """

    arms: list[Floats]
    theta: float
    reduction: float
    known: float


def cuped(values: Sequence[Floats], before: Sequence[Floats]) -> Adjusted:
    """Return the arms' ``values`` (nᵢ,) adjusted by those from ``before`` (nᵢ,), NaN: no past."""
    x, y = np.concatenate(before), np.concatenate(values)
    there = np.isfinite(x)
    known = float(there.mean()) if len(x) else 0.0
    plain = Adjusted(list(values), 0.0, 0.0, known)
    if there.sum() < 3:
        return plain
    x = np.where(there, x, x[there].mean())
    arm = np.repeat(np.arange(len(values)), [len(each) for each in values])
    within_x, within_y = _within(x, arm), _within(y, arm)
    spread, total = float(within_x @ within_x), float(within_y @ within_y)
    # Where all have the same past, rounding leaves dust, and nothing to learn from.
    if spread <= 1e-18 * max(1.0, float(x @ x)) or total <= 0:
        return plain
    theta = float(within_x @ within_y) / spread
    adjusted = y - theta * (x - x.mean())
    left = within_y - theta * within_x
    ends = np.cumsum([len(each) for each in values])[:-1]
    return Adjusted(np.split(adjusted, ends), theta, 1 - float(left @ left) / total, known)


def compare(control: Floats, treatment: Floats, aim: Aim) -> Effect:
    """Return what ``treatment`` (m,) changes against ``control`` (n,), one value per entity.

    The sequential interval is tightest where the difference is known as well as ``aim`` wants.
    """
    a, b = _mean_of(control), _mean_of(treatment)
    found = difference(b, a)
    p = welch_p(found)
    return Effect(
        control=a,
        treatment=b,
        difference=found,
        fixed=fixed_interval(found, aim.level),
        sequential=sequential(found, aim),
        p=p,
        holm=p,
        chi_squared=chi_squared_of(control, treatment),
    )


def sequential(found: Estimate, aim: Aim) -> Limits:
    """Return the interval that holds at all times, from the information that there is now."""
    if not 0 < found.error < np.inf:
        return Limits(-np.inf, np.inf)
    information = PLANNED * aim.variance / found.error**2
    return sequence(replace(found, effective=information), PLANNED, aim.level)


def welch_p(found: Estimate) -> float:
    """Return the two-sided p-value of a difference; 1 where nothing is known of its error."""
    if not 0 < found.error < np.inf:
        return 1.0
    return float(2 * stdtr(found.clusters - 1, -abs(found.mean) / found.error))


def chi_squared_of(control: Floats, treatment: Floats) -> float | None:
    """Return the p-value of Pearson's chi-squared test, without correction for continuity; None
    where a value is not 0 or 1, or a row or column of the table would be empty."""
    both = np.concatenate([control, treatment])
    if not len(control) or not len(treatment) or not np.isin(both, (0.0, 1.0)).all():
        return None
    share = both.mean()
    if share in (0.0, 1.0):
        return None
    variance = share * (1 - share) * (1 / len(control) + 1 / len(treatment))
    return float(chdtrc(1, (treatment.mean() - control.mean()) ** 2 / variance))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's steps, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, highest = [0.0] * len(p), 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - step) * p[place]))
        adjusted[place] = highest
    return adjusted


def _mean_of(values: Floats) -> Estimate:
    return estimate_of(values) if len(values) else Estimate(0.0, np.inf, 0, 0.0, 0.0)


def _within(values: Floats, arm: NDArray[np.int64]) -> Floats:
    """Return the values less their arm's mean."""
    counts = np.maximum(np.bincount(arm), 1)
    centred: Floats = values - (np.bincount(arm, values) / counts)[arm]
    return centred
