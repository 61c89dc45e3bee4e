"""Sample-ratio mismatch: against scipy, and looking always."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom, chisquare

from serving.rollout.sample_ratio import (
    PRIOR,
    chi_squared_p,
    is_mismatch,
    log_excess,
    log_odds,
)


def test_chi_squared_is_scipys() -> None:
    counts, shares = [130, 95, 75], [0.4, 0.35, 0.25]
    expected = chisquare(counts, np.array(shares) * 300)
    assert chi_squared_p(counts, shares) == pytest.approx(float(expected.pvalue))


def test_the_odds_are_the_mean_likelihood_ratio_over_the_prior() -> None:
    counts, shares = [30, 1_070], [0.01, 0.99]
    a, b = PRIOR * shares[0], PRIOR * shares[1]

    def weighted(q: float) -> float:
        return float(binom.pmf(30, 1_100, q) * beta.pdf(q, a, b))

    mean = quad(weighted, 0, 1, points=[0.01, 0.03, 0.06], limit=500)[0]
    stated = binom.logpmf(30, 1_100, 0.01)
    assert log_odds(counts, shares) == pytest.approx(math.log(mean) - stated, rel=1e-6)


def test_twice_the_share_is_noticed_and_the_share_is_not() -> None:
    assert is_mismatch([400, 10_000 - 400], [0.02, 0.98])
    assert not is_mismatch([210, 10_000 - 210], [0.02, 0.98])
    assert not is_mismatch([0, 0], [0.5, 0.5])


def test_looking_always_raises_a_false_alarm_seldom() -> None:
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        in_arm = draw.random(5_000) < 0.1
        hits = np.cumsum(in_arm)
        looks = range(50, 5_001, 50)
        odds = [log_odds([int(hits[n - 1]), n - int(hits[n - 1])], [0.1, 0.9]) for n in looks]
        alarms += max(odds) >= -math.log(0.05)
    assert alarms / 300 <= 0.05


def test_the_excess_is_a_likelihood_ratio_averaged_over_higher_shares() -> None:
    hits, n, share = 18, 1_000, 0.01
    a, b = 1.0, 0.5 / share - 1

    def weighted(q: float) -> float:
        ratio = binom.pmf(hits, n, q) / binom.pmf(hits, n, share)
        return float(ratio * beta.pdf(q, a, b) / beta.sf(share, a, b))

    expected = quad(weighted, share, 1, points=[0.018, 0.05], limit=200)[0]
    assert log_excess(hits, n, share) == pytest.approx(math.log(expected), rel=1e-6)


def test_fewer_than_the_share_are_no_excess() -> None:
    assert log_excess(0, 10_000, 0.01) < 0
    assert log_excess(100, 10_000, 0.01) < 0 < log_excess(200, 10_000, 0.01)
