"""Groups of one field compared with each other: ratios and differences, and their chance. Pure.

The two groups that are compared are those that lie farthest apart, so their test is one of all the
pairs: its p-value is multiplied by how many there are (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serving.fairness.rates import Mean, Share
from serving.performance.intervals import Bounds, Error, difference_of_shares


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of the group ``low`` beside that of ``high``, the chance of such a difference where
    the two are alike, and how many labels the smaller one has."""

    bounds: Bounds
    chance: float
    low: str
    high: str
    n: int


def largest_difference(groups: Mapping[str, Share | Mean]) -> Comparison | None:
    """Return highest − lowest figure of groups (fairlearn's "difference between groups"), with
    Newcombe's interval of shares or the normal one of means; None of fewer than two groups.

    Of calibration gaps the signed ones count: too much for some and too little for others adds up.
    """
    if len(groups) < 2:
        return None
    low, high = (pick(sorted(groups), key=lambda g: _value(groups[g])) for pick in (min, max))
    return _compared(groups, low, high)


def ratio_to_highest(groups: Mapping[str, Share], group: str) -> Comparison | None:
    """Return the rate of a group as a share of the highest one's, which four fifths is the rule for
    (Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 D); None where there is
    nothing to compare it with, or nobody is selected.

    The interval is that of Donner and Zou (2012) from Wilson's of both.
    """
    highest = max(sorted(groups), key=lambda g: _value(groups[g]))
    top = _value(groups[highest])
    if len(groups) < 2 or not top > 0:
        return None
    if group == highest:
        return Comparison(Bounds(1.0), 1.0, group, highest, groups[group].n)
    one, other = groups[group], groups[highest]
    chance = min(1.0, _pairs(len(groups)) * _chance_of_shares(one, other))
    bounds = _ratio(one.bounds, other.bounds)
    return Comparison(bounds, chance, group, highest, min(one.n, other.n))


def _compared(groups: Mapping[str, Share | Mean], low: str, high: str) -> Comparison:
    one, other = groups[high], groups[low]
    if isinstance(one, Share) and isinstance(other, Share):
        bounds = difference_of_shares(one.bounds, other.bounds)
        chance = _chance_of_shares(one, other)
    else:
        value = _value(one) - _value(other)
        error = _together(one, other)
        half = error.half()
        bounds = Bounds(value, max(0.0, value - half), value + half)
        chance = 2 * error.chance(value)
    chance = min(1.0, _pairs(len(groups)) * chance)
    return Comparison(bounds, chance, low, high, min(one.n, other.n))


def _pairs(groups: int) -> int:
    return groups * (groups - 1) // 2


def _value(figure: Share | Mean) -> float:
    return figure.hits / figure.n if isinstance(figure, Share) else figure.value


def _together(one: Share | Mean, other: Share | Mean) -> Error:
    """Return the error of a difference of means, known with the fewer degrees of freedom."""
    if not (isinstance(one, Mean) and isinstance(other, Mean)):
        raise TypeError("a share and a mean can't be compared")
    freedom = min(one.error.freedom, other.error.freedom)
    return Error(math.hypot(one.error.size, other.error.size), freedom)


def _chance_of_shares(one: Share, other: Share) -> float:
    """Return the two-sided p-value that two shares are the same (pooled z-test), with variances
    as much inflated as the groups' days show."""
    pooled = (one.hits + other.hits) / (one.n + other.n)
    variance = pooled * (1 - pooled) * (one.inflation / one.n + other.inflation / other.n)
    difference = abs(_value(one) - _value(other))
    if variance <= 0:
        return 1.0
    return min(1.0, 2 * Error(math.sqrt(variance)).chance(difference))


def _ratio(one: Bounds, other: Bounds) -> Bounds:
    p, q = one.value, other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Bounds(p / q)
    low = _limit(p, q, one.low, other.high, -1)
    high = _limit(p, q, one.high, other.low, +1)
    return Bounds(p / q, low, high)


def _limit(p: float, q: float, of_p: float, of_q: float, sign: int) -> float | None:
    divisor = of_q * (2 * q - of_q)
    under = (p * q) ** 2 - of_p * (2 * p - of_p) * divisor
    if divisor <= 0 or under < 0:
        return None
    return max(0.0, (p * q + sign * math.sqrt(under)) / divisor)
