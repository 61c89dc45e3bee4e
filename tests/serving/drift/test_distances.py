"""KS, Wasserstein and chi-squared against scipy's; shares against exact counting."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import (
    chi2_contingency,
    fisher_exact,
    ks_2samp,
    kstwobign,
    wasserstein_distance,
)
from scipy.stats.contingency import association

from serving.drift.chi_squared import chances, rare_together, statistics
from serving.drift.comparing import compare_classes
from serving.drift.ks import ks, ks_chance, ks_of_counts
from serving.drift.shares import chance_of_change, chance_of_more
from serving.drift.wasserstein import wasserstein_of_counts

Floats = NDArray[np.float64]


def _samples(seed: int) -> tuple[Floats, Floats]:
    """Two samples: continuous, with ties, or mostly one value, in turn."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 400, 2)
    one, other = rng.normal(size=m), rng.normal(0.3, 1.2, size=n)
    if seed % 3 == 1:
        one, other = one.round(1), other.round(1)
    if seed % 3 == 2:
        one, other = np.maximum(one, 0), np.maximum(other, 0)
    return one, other


def test_ks_is_scipys_with_and_without_ties() -> None:
    for seed in range(60):
        one, other = _samples(seed)
        expected = ks_2samp(one, other, method="asymp").statistic
        assert ks(np.sort(one), other) == pytest.approx(expected, abs=1e-12)


def test_ks_of_nothing_is_nothing() -> None:
    assert ks(np.empty(0), np.ones(3)) == ks(np.ones(3), np.empty(0)) == 0
    assert ks_of_counts(np.array([[0, 0]]), np.array([[1, 2]])).tolist() == [0]


def test_ks_of_fine_bins_is_within_a_bin_of_the_exact_one_and_never_above() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=20_000)
    edges = np.quantile(one, np.arange(1, 120) / 120)
    for shift in (0.0, 0.05, 0.5):
        other = rng.normal(shift, 1, 5_000)
        counts = [np.bincount(np.searchsorted(edges, x), minlength=120) for x in (one, other)]
        binned = float(ks_of_counts(counts[0][None], counts[1][None])[0])
        exact = ks(np.sort(one), other)
        assert exact - 0.02 < binned <= exact + 1e-12


def test_chances_of_ks_are_those_of_the_limit_and_even_without_drift() -> None:
    n = np.array([1_000.0])
    far = np.array([0.05])
    expected = kstwobign.sf(np.sqrt(500.0) * 0.05)
    assert ks_chance(far, n, n) == pytest.approx([expected])
    assert ks_chance(far, n, n, 4.0) == pytest.approx([kstwobign.sf(np.sqrt(125.0) * 0.05)])
    rng = np.random.default_rng(2)
    runs = np.array([ks(np.sort(rng.normal(size=2_000)), rng.normal(size=500)) for _ in range(400)])
    p = ks_chance(runs, np.full(400, 2_000.0), np.full(400, 500.0))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.035)


def test_wasserstein_of_fine_bins_is_close_to_the_exact_one() -> None:
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=20_000), rng.normal(0.5, 1, 20_000)
    edges = np.unique([one.min(), *np.quantile(one, np.arange(1, 120) / 120), one.max()])
    counts = [
        np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) for x in (one, other)
    ]
    binned = wasserstein_of_counts(counts[0][None], counts[1][None], edges[None])

    assert binned[0] == pytest.approx(wasserstein_distance(one, other), rel=0.03)
    nothing = np.zeros_like(counts[0])
    assert wasserstein_of_counts(counts[0][None], nothing[None], edges[None]).tolist() == [0]


def test_chi_squared_and_its_chance_are_scipys_and_the_effect_is_cramers_v() -> None:
    rng = np.random.default_rng(5)
    one, none = np.ones(1), np.zeros(1)
    for _ in range(30):
        expected, observed = rng.integers(20, 200, (2, rng.integers(2, 12)))
        table = np.stack([expected, observed])
        oracle = chi2_contingency(table, correction=False)
        statistic, freedom = statistics(expected[None], observed[None])
        p = chances(statistic, freedom, one, one, none)
        assert statistic == pytest.approx([oracle.statistic])
        assert freedom == [oracle.dof]
        assert p == pytest.approx([oracle.pvalue], abs=1e-12)
        labels = [str(i) for i in range(len(expected))]
        drift = compare_classes("class", expected, observed, labels, 1)
        assert drift.effect == pytest.approx(association(table, method="cramer"))
        assert drift.chance == pytest.approx(oracle.pvalue, abs=1e-12)


def test_empty_bins_and_sides_count_for_nothing() -> None:
    statistic, freedom = statistics(
        np.array([[5, 0, 5], [1, 1, 0], [0, 3, 0]]), np.array([[2, 0, 8], [0, 0, 0], [0, 9, 0]])
    )
    oracle = chi2_contingency(np.array([[5, 5], [2, 8]]), correction=False)
    assert statistic.tolist() == [pytest.approx(oracle.statistic), 0, 0]
    assert freedom.tolist() == [1, 0, 0]
    ones = np.ones(3)
    assert chances(statistic, freedom, ones, ones, ones)[1:].tolist() == [1, 1]


def test_rare_bins_are_taken_together_and_keep_the_tail_honest() -> None:
    expected, observed = np.array([[9_000, 3, 2, 995]]), np.array([[450, 1, 0, 49]])
    one, other = rare_together(expected, observed)
    assert one.tolist() == [[9_000, 0, 0, 995, 5]]
    assert other.tolist() == [[450, 0, 0, 49, 1]]
    rng = np.random.default_rng(6)
    shares = np.array([0.9] + [0.1 / 60] * 60)
    runs = 20_000
    counts = [rng.multinomial(n, shares, runs) for n in (20_000, 500)]
    statistic, freedom = statistics(*rare_together(*counts))
    ones, none = np.ones(runs), np.zeros(runs)
    p = chances(statistic, freedom, ones, ones, none)
    assert np.mean(p < 0.001) < 0.002


def test_chances_widen_with_what_a_feature_does_by_itself() -> None:
    x, df = np.array([20.0, 20.0, 20.0]), np.full(3, 5.0)
    p = chances(
        x, df, np.array([1.0, 2.0, 2.0]), np.array([5.0, 5.0, 1.0]), np.array([0.0, 500.0, 6.0])
    )
    assert p[0] < p[1] < p[2]


def test_more_of_a_rare_thing_is_judged_exactly() -> None:
    for k, n, known, n_known in ((3, 100, 0, 900), (5, 50, 10, 500), (0, 10, 3, 100)):
        table = np.array([[k, n - k], [known, n_known - known]])
        sides = [np.array([float(x)]) for x in (k, n, known, n_known)]
        expected = fisher_exact(table, alternative="greater").pvalue
        assert chance_of_more(*sides)[0] == pytest.approx(expected)
    gone = chance_of_change(*(np.array([x]) for x in (0.0, 500.0, 300.0, 3_000.0)))
    assert gone[0] < 1e-10
