import numpy as np
import pytest

from training.dataset.draws import uniform


def test_draws_are_uniform_and_not_correlated_with_their_neighbours() -> None:
    rows = np.arange(100_000)
    draws = uniform((7, 0), rows)
    counts, _ = np.histogram(draws, 20, (0, 1))
    assert ((counts - 5_000) ** 2 / 5_000).sum() < 50  # chi-squared, 19 degrees of freedom
    for other in (uniform((7, 1), rows), uniform((8, 0), rows), np.roll(draws, 1)):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.015


def test_a_draw_belongs_to_its_place() -> None:
    rows, columns = np.arange(50)[:, None], np.arange(4)
    whole = uniform((7, 3), rows, columns)
    assert whole.shape == (50, 4)
    np.testing.assert_array_equal(uniform((7, 3), rows[30:40], columns), whole[30:40])
    assert uniform((7, 3), np.array([30]), np.array([2]))[0] == whole[30, 2]
    assert len(np.unique(whole)) == 200


def test_the_numbers_stay_the_same_over_versions() -> None:
    """Models depend on them; whoever changes the formula changes what a manifest says."""
    drawn = uniform((7, 0, 1), np.array([0, 1, -1]))
    assert drawn == pytest.approx(DRAWN, abs=1e-15)


DRAWN = [0.9116112581720478, 0.7181120597156712, 0.9101727296961529]
