"""Confidence sequences against statsmodels at one size, and their coverage at all sizes."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy.stats import norm, t
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import DescrStatsW

from serving.rollout.statistics import (
    BUCKETS,
    NOTHING,
    buckets_of,
    difference,
    estimate,
    estimate_of,
    fixed_interval,
    fixed_size,
    lower_limit,
    multiplier,
    sequence,
    upper_limit,
)

Floats = NDArray[np.float64]


def _visits(seed: int, entities: int, n: int, spread: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return values of mean 0 (n,) and the bucket of each: few entities have most of them."""
    draw = np.random.default_rng(seed)
    weights = draw.pareto(1.5, entities) + 1
    who = draw.choice(entities, n, p=weights / weights.sum())
    own = draw.normal(scale=spread, size=entities)
    return own[who] + draw.normal(size=n), draw.integers(0, BUCKETS, entities)[who]


def test_independent_values_have_the_interval_of_statsmodels() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    found = estimate_of(values)
    expected = DescrStatsW(values)
    assert found.mean == pytest.approx(expected.mean)
    assert found.error == pytest.approx(expected.std_mean)
    interval = fixed_interval(found, 0.05)
    assert (interval.low, interval.high) == pytest.approx(expected.tconfint_mean(0.05))
    assert found.effective == pytest.approx(400)
    assert found.clusters == pytest.approx(400)


def test_clustered_values_have_the_robust_error_of_statsmodels() -> None:
    values, buckets = _visits(2, 300, 3_000, 1.0)
    fitted = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": buckets}
    )
    found = estimate_of(values, buckets)
    assert found.error == pytest.approx(float(fitted.bse[0]), rel=1e-9)
    assert found.error > 2 * estimate_of(values).error  # taken for independent, far too sure
    assert found.design_effect == pytest.approx((found.error / estimate_of(values).error) ** 2)


def test_sums_over_clusters_say_what_the_values_say() -> None:
    values, buckets = _visits(3, 50, 500, 0.5)
    counts = np.bincount(buckets, minlength=BUCKETS).astype(float)
    sums = np.bincount(buckets, values, BUCKETS).astype(float)
    found = estimate(counts, sums, float(values @ values))
    again = estimate_of(values, buckets)
    assert (found.mean, found.error) == pytest.approx((again.mean, again.error))


def test_a_difference_has_welchs_error_and_degrees_of_freedom() -> None:
    draw = np.random.default_rng(4)
    a, b = draw.normal(1.0, 1.0, 80), draw.normal(0.0, 3.0, 50)
    found = difference(estimate_of(a), estimate_of(b))
    low, high = sm.stats.CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(
        0.05, usevar="unequal"
    )
    interval = fixed_interval(found, 0.05)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize("sides", [1, 2])
def test_a_sequence_is_wider_than_the_interval_and_tightest_where_it_is_tuned(sides: int) -> None:
    sizes = [100, 300, 1_000, 3_000, 10_000]
    factors = [multiplier(n, 1_000, 0.05, sides) for n in sizes]
    assert all(k > norm.isf(0.05 / sides) for k in factors)
    # "Tightest": no other tuning gives a narrower interval at that size.
    others = [multiplier(1_000, tuned, 0.05, sides) for tuned in (300, 600, 1_700, 3_000)]
    assert factors[2] < min(others)


def test_the_boundary_is_that_of_the_paper() -> None:
    # Robbins' mixture: the martingale exp(ρ²S²/(2(tρ²+1)))/sqrt(tρ²+1) is 1/α on the boundary.
    n, tuned, alpha = 700.0, 1_000.0, 0.05
    rho2 = (multiplier_tuning(alpha)) / tuned
    s = multiplier(n, tuned, alpha) * math.sqrt(n)
    mixture = math.exp(rho2 * s**2 / (2 * (n * rho2 + 1))) / math.sqrt(n * rho2 + 1)
    assert mixture == pytest.approx(1 / alpha)


def multiplier_tuning(alpha: float) -> float:
    """Return tρ² by the paper's approximation, found to be close to the exact one below."""
    v = -2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1
    for _ in range(50):  # v + 1 = e·... : the fixed point of v = ln(v + 1) + 1 − 2 ln α
        v = math.log(v + 1) - 2 * math.log(alpha)
    return v


def test_few_clusters_are_less_sure_than_many() -> None:
    values = np.random.default_rng(5).normal(size=30)
    found = estimate_of(values)
    k = multiplier(30, 100, 0.05, sides=1)
    reach = found.mean - lower_limit(found, 100, 0.05)
    assert reach == pytest.approx(found.error * t.isf(norm.sf(k), 29))
    assert reach > k * found.error


def test_nothing_is_known_of_one_cluster() -> None:
    found = estimate_of(np.ones(5), np.zeros(5, np.int64))
    assert found is NOTHING
    assert lower_limit(found, 100, 0.05) == -math.inf
    assert upper_limit(found, 100, 0.05) == math.inf


def test_an_estimate_of_one_value_many_times_is_certain() -> None:
    found = estimate_of(np.full(100, 0.25))
    assert found.error == 0.0
    assert found.effective == 100


def _share_missing(seeds: range, clustered: bool, sequential: bool) -> float:
    """Return the share of runs in which some of 40 looks excludes the mean, 0."""
    missed = 0
    for seed in seeds:
        values, buckets = _visits(seed, 500, 4_000, 0.5)
        for n in range(100, 4_001, 100):
            found = estimate_of(values[:n], buckets[:n] if clustered else None)
            limits = sequence(found, 1_000, 0.05) if sequential else fixed_interval(found, 0.05)
            if not limits.low <= 0 <= limits.high:
                missed += 1
                break
    return missed / len(seeds)


def test_looking_always_misses_no_more_than_stated_also_of_heavy_entities() -> None:
    seeds = range(200)
    assert _share_missing(seeds, clustered=True, sequential=True) <= 0.05
    # What it is for: the interval of one look, and events taken for independent, are far off.
    assert _share_missing(seeds, clustered=True, sequential=False) > 0.15
    assert _share_missing(seeds, clustered=False, sequential=True) > 0.15


def test_the_fixed_size_is_statsmodels() -> None:
    per_arm = NormalIndPower().solve_power(0.1, alpha=0.05, power=0.8)
    assert per_arm == pytest.approx(1_569.8, abs=0.1)  # a figure known from the literature
    assert fixed_size(1.0, 0.1, 0.05, 0.8) * 2 == pytest.approx(per_arm, abs=2)


def test_entities_fill_the_buckets_evenly_whatever_their_arm() -> None:
    from streams.assignment import places_of

    entities = [f"e{i}" for i in range(20_000)]
    found = buckets_of(entities)
    arm = places_of("canary-1", entities) < 0.01
    assert np.bincount(found, minlength=BUCKETS).min() > 30
    assert len(set(found[arm].tolist())) > 100  # of about 200 entities
