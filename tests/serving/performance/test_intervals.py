import math

import numpy as np
import pytest
from scipy.stats import norm, t
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from serving.performance.intervals import (
    Error,
    difference_of_shares,
    error_of_steps,
    inflation_of,
    of_share,
    of_size,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (480, 5_000)])
def test_a_share_has_wilsons_interval(hits: int, n: int) -> None:
    found = of_share(hits, n)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(hits, n, method="wilson"), abs=1e-12
    )


def test_differences_have_newcombes_interval() -> None:
    found = difference_of_shares(of_share(9, 40), of_share(21, 50))
    expected = confint_proportions_2indep(9, 40, 21, 50, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_an_error_known_from_few_steps_is_students() -> None:
    error = Error(0.1, 6)
    assert error.half() == pytest.approx(0.1 * t.ppf(0.975, 6))
    assert error.chance(0.3) == pytest.approx(t.sf(3, 6))
    assert Error(0.1).chance(0.3) == pytest.approx(norm.sf(3))
    assert Error(0.0).chance(0.3) == 0.0
    assert Error(math.inf).chance(0.3) == 1.0


def test_days_that_differ_as_a_whole_widen_an_interval_to_what_it_should_be() -> None:
    rng, hits, naive, runs = np.random.default_rng(1), 0, 0, 500
    for _ in range(runs):
        counts = rng.integers(80, 120, 14)
        days = rng.normal(0, 0.3, 14)
        sums = counts * days + rng.normal(0, 1, 14) * np.sqrt(counts)
        mean, rows = sums.sum() / counts.sum(), Error(1.0 / math.sqrt(counts.sum()))
        hits += abs(mean) <= error_of_steps(sums, counts).half()
        naive += abs(mean) <= rows.half()

    assert hits / runs == pytest.approx(0.95, abs=0.03)
    assert naive / runs < 0.6


def test_too_few_steps_say_nothing_of_their_spread() -> None:
    assert error_of_steps(np.array([1.0, 50.0, 3.0]), np.array([10, 10, 10])).size == 0
    assert inflation_of(np.array([1, 9]), np.array([10, 10])) == 1
    assert inflation_of(np.array([1, 9] * 4), np.array([10, 10] * 4)) > 5


def test_a_size_may_be_nothing_where_the_signs_of_its_bounds_differ() -> None:
    assert of_size(-0.1, Error(0.1)).low == 0
    found = of_size(-0.3, Error(0.1))
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx((0.104, 0.496), abs=1e-3)
