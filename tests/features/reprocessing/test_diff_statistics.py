"""The figures of a comparison are numpy's over the whole, however the rows come in chunks."""

import numpy as np
import pytest

from features.reprocessing.diff_statistics import ACCURACY, DifferenceSketch, NumberColumn


def compared(left: np.ndarray, right: np.ndarray, chunk: int) -> NumberColumn:
    column = NumberColumn("x")
    for first in range(0, len(left), chunk):
        column.add(left[first : first + chunk], right[first : first + chunk])
    return column


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_figures_are_those_of_the_whole(chunk: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(1e6, 3.0, 1000)
    y = x + rng.normal(0.5, 1.0, 1000)
    found = compared(x, y, chunk).result()
    assert (found.rows, found.equal, found.differing) == (1000, 0, 1000)
    assert found.mean_absolute == pytest.approx(np.abs(y - x).mean())
    assert found.max_absolute == np.abs(y - x).max()
    assert found.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert found.quantiles is not None
    for name, quantile in found.quantiles.items():
        exact = np.quantile(y - x, float(name), method="lower")
        assert quantile == pytest.approx(exact, rel=1.01 * ACCURACY)


def test_equal_is_equal_bits_and_missing_on_both_sides() -> None:
    nan, other_nan = np.nan, -np.nan
    left = np.array([0.0, 0.0, nan, nan, 1.0, 0.1 + 0.2])
    right = np.array([0.0, -0.0, other_nan, 1.0, nan, 0.3])
    column = NumberColumn("x")
    equal = column.add(left, right)
    assert equal.tolist() == [True, False, True, False, False, False]
    found = column.result()
    assert (found.missing_left, found.missing_right) == (2 / 6, 2 / 6)
    assert found.max_absolute == (0.1 + 0.2) - 0.3


def test_nothing_to_compare_gives_no_figures() -> None:
    column = NumberColumn("x")
    column.add(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))
    found = column.result()
    assert found.mean_absolute is None
    assert found.max_absolute is None
    assert found.quantiles is None
    assert found.correlation is None
    assert NumberColumn("y").result().missing_left == 0.0
    flat = compared(np.ones(5), np.arange(5.0), 5).result()
    assert flat.correlation is None


def test_a_sketch_knows_signs_zeros_and_all_sizes() -> None:
    sketch = DifferenceSketch()
    sketch.add(np.zeros(10))
    assert sketch.quantile(0.5) == 0.0
    sketch.add(np.array([-1e300] * 5 + [-1e-9] * 5 + [2e-300, 1e-9, 5.0, 1e9, 1.7e308]))
    assert sketch.quantile(0) == pytest.approx(-1e300, rel=ACCURACY)
    assert sketch.quantile(7 / 24) == pytest.approx(-1e-9, rel=ACCURACY)
    assert sketch.quantile(0.5) == 0.0
    assert sketch.quantile(20 / 24) == pytest.approx(2e-300, rel=ACCURACY)
    assert sketch.quantile(1) == pytest.approx(1.7e308, rel=ACCURACY)
