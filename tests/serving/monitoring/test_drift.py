import numpy as np
import pytest
from scipy.stats import entropy

from serving.monitoring.drift import SMOOTHING, compare, critical_value, psi

BINS = 10


def test_psi_is_the_symmetric_kullback_leibler_divergence() -> None:
    expected, observed = np.array([500, 300, 200]), np.array([100, 300, 600])
    p, q = expected + SMOOTHING, observed + SMOOTHING

    assert psi(expected, observed) == pytest.approx(entropy(p, q) + entropy(q, p))


def test_bins_that_are_empty_on_both_sides_change_nothing() -> None:
    expected, observed = np.array([500, 300, 200]), np.array([100, 300, 600])
    gap = np.array([500, 0, 300, 200, 0]), np.array([100, 0, 300, 600, 0])

    assert psi(*gap) == psi(expected, observed)


def test_an_unseen_bin_gives_a_large_but_finite_psi() -> None:
    value = psi(np.array([1000, 0]), np.array([500, 500]))

    assert 1 < value < 10


def test_without_drift_the_critical_value_is_exceeded_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    alpha, n_reference, n, runs = 0.05, 5_000, 600, 2_000
    shares = np.full(BINS, 1 / BINS)
    references = rng.multinomial(n_reference, shares, size=runs)
    windows = rng.multinomial(n, shares, size=runs)
    critical = critical_value(n_reference, n, BINS, alpha)

    exceeded = np.mean([psi(a, b) > critical for a, b in zip(references, windows, strict=True)])

    assert exceeded == pytest.approx(alpha, abs=3 * np.sqrt(alpha * (1 - alpha) / runs))


def test_a_small_window_raises_no_alarm_by_the_threshold_alone() -> None:
    rng = np.random.default_rng(5)
    shares = np.full(BINS, 1 / BINS)
    reference = rng.multinomial(5_000, shares)
    windows = [rng.multinomial(50, shares) for _ in range(1_000)]

    found = [compare({"x": reference}, {"x": window})[0] for window in windows]

    assert np.mean([drift.psi >= 0.1 for drift in found]) > 0.5
    assert np.mean([drift.alarming(0.1) for drift in found]) < 0.02


def test_a_real_shift_is_alarming() -> None:
    drift = compare({"x": np.array([900, 100])}, {"x": np.array([500, 500])})[0]

    assert drift.alarming(0.25)
    assert (drift.n, drift.n_reference, drift.bins) == (1_000, 1_000, 2)


def test_a_small_difference_is_not_alarming_however_sure_it_is() -> None:
    drift = compare({"x": np.array([500_000, 500_000])}, {"x": np.array([510_000, 490_000])})[0]

    assert drift.psi > drift.critical
    assert not drift.alarming(0.25)


def test_more_features_make_each_ones_critical_value_larger() -> None:
    counts = np.array([500, 500])
    alone = compare({"a": counts}, {"a": counts})[0]
    among = compare({"a": counts, "b": counts}, {"a": counts, "b": counts})[0]

    assert among.critical > alone.critical


def test_one_bin_or_no_data_says_nothing() -> None:
    assert psi(np.array([10]), np.array([3])) == 0
    assert critical_value(0, 10, 5, 0.01) == 0
