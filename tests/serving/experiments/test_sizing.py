"""Sample sizes against statsmodels, the published check, and simulation."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from statsmodels.stats.proportion import power_proportions_2indep

from serving.experiments.sizing import (
    Aim,
    absolute,
    detectable,
    for_means,
    for_proportions,
    power_of,
    shares,
    span_for,
)
from streams.errors import ConfigurationError

DAY = 86_400_000


def test_a_tenth_of_a_standard_deviation() -> None:
    """δ = 0.1 σ, 80 % power, α = .05."""
    sizes = for_means(Aim(effect=0.1), sigma=1.0)
    assert round(sizes.treatment, 1) == 1569.8
    assert sizes.control == sizes.treatment
    assert sizes.total == 2 * 1570


@pytest.mark.parametrize("share", [None, 0.1, 0.3, 0.8])
@pytest.mark.parametrize(("delta", "sigma", "power"), [(0.1, 1.0, 0.8), (-3.0, 20.0, 0.95)])
def test_means_are_those_of_statsmodels(
    share: float | None, delta: float, sigma: float, power: float
) -> None:
    sizes = for_means(Aim(delta, 0.01, power), sigma, share)
    ratio = sizes.treatment / sizes.control
    asked = {"effect_size": abs(delta) / sigma, "alpha": 0.01, "power": power, "ratio": ratio}
    assert sizes.control == pytest.approx(NormalIndPower().solve_power(**asked), rel=1e-6)
    # Student's quantiles ask for a little more.
    assert sizes.control == pytest.approx(TTestIndPower().solve_power(**asked), abs=5)


@pytest.mark.parametrize("share", [None, 0.2])
@pytest.mark.parametrize(("baseline", "delta"), [(0.1, 0.02), (0.5, -0.05), (0.03, 0.01)])
def test_proportions_have_the_power_of_statsmodels(
    share: float | None, baseline: float, delta: float
) -> None:
    sizes = for_proportions(Aim(delta, 0.05, 0.9), baseline, share)
    found = power_proportions_2indep(
        delta, baseline, sizes.treatment, ratio=sizes.control / sizes.treatment, return_results=True
    )
    assert found.power == pytest.approx(0.9, abs=2e-3)


def test_of_proportions_the_chi_squared_test_has_the_power() -> None:
    aim = Aim(effect=0.06, power=0.8)
    n = math.ceil(for_proportions(aim, 0.2).treatment)
    draws = np.random.default_rng(3)
    a, b = draws.binomial(n, 0.2, 20_000) / n, draws.binomial(n, 0.26, 20_000) / n
    pooled = (a + b) / 2
    z = (b - a) / np.sqrt(pooled * (1 - pooled) * 2 / n)
    assert np.mean(np.abs(z) > 1.959964) == pytest.approx(0.8, abs=0.01)
    assert for_proportions(aim, 0.2, pooled=False).treatment < n


def test_several_arms_are_each_compared_at_a_stricter_level() -> None:
    three = for_means(Aim(0.1, treatments=3), 1.0)
    assert three.treatment == pytest.approx(for_means(Aim(0.1, alpha=0.05 / 3), 1.0).treatment)
    assert three.total == 4 * math.ceil(three.treatment)
    assert shares(3, None) == (0.25, 0.25)
    metrics = for_means(Aim(0.1, treatments=1, metrics=3), 1.0, share=0.5)
    assert metrics.total == 2 * math.ceil(three.treatment), "three metrics are no three arms"


def test_what_can_be_found_is_the_inverse_of_the_size() -> None:
    aim = Aim(effect=0.3, power=0.9)
    n = for_means(aim, 2.0).treatment
    error = math.sqrt(2 * 2.0**2 / n)
    assert detectable(aim, error) == pytest.approx(0.3)
    assert power_of(aim, error) == pytest.approx(0.9, abs=1e-6)
    assert error**2 == pytest.approx(aim.variance)


def test_relative_effects_and_the_span_that_holds_enough_entities() -> None:
    assert absolute(-0.1, -4.0, relative=True) == pytest.approx(-0.4)
    assert absolute(0.1, None, relative=False) == 0.1
    seen = [10 * DAY, 10 * DAY, 7 * DAY, 2 * DAY]
    assert [span_for(n, seen, 10 * DAY) for n in (1, 2, 3, 4, 5)] == [0.0, 0.0, 3.0, 8.0, None]


def test_what_can_not_be_planned_is_told() -> None:
    with pytest.raises(ConfigurationError, match="not 0"):
        Aim(effect=0.0)
    with pytest.raises(ConfigurationError, match=r"alpha 0\.9"):
        Aim(effect=1.0, alpha=0.9)
    with pytest.raises(ConfigurationError, match="state --baseline"):
        absolute(0.1, None, relative=True)
    with pytest.raises(ConfigurationError, match=r"becomes 1\.02"):
        for_proportions(Aim(0.02), 1.0)
    with pytest.raises(ConfigurationError, match="leaves the control"):
        for_means(Aim(0.1, treatments=2), 1.0, share=0.5)
    with pytest.raises(ConfigurationError, match="all entities alike"):
        for_means(Aim(0.1), 0.0)
