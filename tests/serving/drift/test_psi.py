import numpy as np
import pytest
from scipy.stats import entropy

from serving.drift.psi import SMOOTHING, band, contributions, critical_value, psi
from training.dispersion import Variation

BINS = 10


def test_psi_is_the_symmetric_kullback_leibler_divergence() -> None:
    expected, observed = np.array([500, 300, 200]), np.array([100, 300, 600])
    p, q = expected + SMOOTHING, observed + SMOOTHING

    assert psi(expected, observed) == pytest.approx(entropy(p, q) + entropy(q, p))


def test_bins_that_are_empty_on_both_sides_change_nothing() -> None:
    expected, observed = np.array([500, 300, 200]), np.array([100, 300, 600])
    gap = np.array([500, 0, 300, 200, 0]), np.array([100, 0, 300, 600, 0])

    assert psi(*gap) == pytest.approx(psi(expected, observed), rel=1e-12)


def test_an_unseen_bin_gives_a_large_but_finite_psi() -> None:
    assert 1 < psi(np.array([1000, 0]), np.array([500, 500])) < 10


def test_many_features_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    expected, observed = rng.integers(0, 50, (2, 7, BINS))

    together = contributions(expected, observed).sum(axis=1)

    assert together == pytest.approx([psi(a, b) for a, b in zip(expected, observed, strict=True)])


def test_without_drift_the_critical_value_is_exceeded_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    alpha, n_reference, n, runs = 0.05, 5_000, 600, 2_000
    shares = np.full(BINS, 1 / BINS)
    references = rng.multinomial(n_reference, shares, size=runs)
    windows = rng.multinomial(n, shares, size=runs)
    critical = critical_value(n_reference, n, BINS, alpha)

    exceeded = np.mean(contributions(references, windows).sum(axis=1) > critical)

    assert exceeded == pytest.approx(alpha, abs=3 * np.sqrt(alpha * (1 - alpha) / runs))


def test_what_moves_by_itself_may_move_further() -> None:
    alone = critical_value(5_000, 600, BINS, 0.01)
    moving = critical_value(5_000, 600, BINS, 0.01, Variation(4.0, 3.0, 50))

    assert moving > 4 * alone
    unsure = critical_value(5_000, 600, BINS, 0.01, Variation(4.0, 3.0, 4))
    assert unsure > moving


def test_one_bin_or_no_data_says_nothing() -> None:
    assert psi(np.array([10]), np.array([3])) == 0
    assert psi(np.array([0, 0]), np.array([0, 0])) == 0
    assert critical_value(0, 10, 5, 0.01) == 0
    assert critical_value(10, 10, 1, 0.01) == 0


def test_the_classic_bands() -> None:
    assert [band(value) for value in (0.0, 0.0999, 0.1, 0.19, 0.2, 3.0)] == [
        "none", "none", "moderate", "moderate", "major", "major",
    ]  # fmt: skip
