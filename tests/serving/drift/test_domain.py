"""The domain classifier: what no single feature shows, and nothing where nothing is."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.drift.domain import Separability, separability


@dataclass
class Sample:
    numeric: NDArray[np.float64]
    categories: list[list[str]]
    times_ms: NDArray[np.int64]


def sample(n: int, seed: int, correlation: float = 0.0, shift: float = 0.0) -> Sample:
    """Return three numbers, standard normal each, of which the first two go together."""
    random = np.random.default_rng(seed)
    a, b, c = random.normal(size=(3, n))
    b = correlation * a + np.sqrt(1 - correlation**2) * b
    texts = [f"t{i}" for i in random.integers(0, 30, n)]
    return Sample(np.stack([a, b, c + shift], axis=1), [texts], np.arange(n))


def told(reference: Sample, window: Sample) -> Separability:
    found = separability(reference, window, ["a", "b", "c"], ["kind"])
    assert found is not None
    return found


def test_a_change_in_how_features_go_together_is_found_though_each_is_as_it_was() -> None:
    found = told(sample(3_000, 1), sample(2_000, 2, correlation=0.8))

    assert found.low > 0.6
    assert {each.feature for each in found.features[:2]} == {"a", "b"}
    assert abs(found.features[-1].drop) < 0.02
    assert (found.n_reference, found.n) == (3_000, 2_000)


def test_without_a_change_it_cannot_tell() -> None:
    beyond = [
        told(sample(1_000, 2 * seed), sample(1_000, 2 * seed + 1)).is_beyond_chance
        for seed in range(20)
    ]

    assert sum(beyond) <= 3


def test_a_shift_is_told_of_the_feature_that_shifted_and_its_area_is_that_of_the_theory() -> None:
    found = told(sample(4_000, 1), sample(4_000, 2, shift=1.0))

    assert found.features[0].feature == "c"
    assert found.auc == pytest.approx(0.760, abs=0.02)  # normal, d' = 1: Phi(1/sqrt(2))


def test_missing_values_and_new_texts_count() -> None:
    window = sample(1_000, 2)
    window.numeric[::4, 0] = np.nan
    assert told(sample(1_000, 1), window).features[0].feature == "a"

    window = sample(1_000, 2)
    window.categories[0][::4] = ["new"] * 250
    found = told(sample(1_000, 1), window)
    assert found.features[0].feature == "kind"
    assert found.auc > 0.58


def test_a_constant_or_wholly_missing_feature_is_no_obstacle_and_few_rows_tell_nothing() -> None:
    reference, window = sample(500, 1), sample(500, 2)
    for side in (reference, window):
        side.numeric[:, 0] = 7.0
        side.numeric[:, 1] = np.nan
    assert 0.3 < told(reference, window).auc < 0.7
    assert separability(reference, sample(20, 3), ["a", "b", "c"], ["kind"]) is None


def wandering(days: int, seed: int, shift: float = 0.0) -> Sample:
    """Return a hundred rows a day, of which the first number has another mean every week,
    in no order."""
    n = 100 * days
    found = sample(n, seed)
    random = np.random.default_rng(seed)
    found.numeric[:, 0] += np.repeat(random.normal(0, 0.7, -(-days // 7)), 700)[:n] + shift
    mixed = random.permutation(n)
    texts = [found.categories[0][i] for i in mixed]
    return Sample(found.numeric[mixed], [texts], found.times_ms[mixed])


def test_a_window_that_wanders_no_further_than_training_did_is_no_change() -> None:
    for seed in (1, 7, 9):
        found = told(wandering(42, seed), wandering(7, 100 + seed))
        assert len(found.usual) == 6
        assert found.usual == tuple(sorted(found.usual))
        assert found.low > 0.5  # by the interval alone it would be one
        assert not found.is_beyond_chance
    assert told(wandering(42, 1), wandering(7, 101, shift=4.0)).is_beyond_chance
    assert told(wandering(12, 1), wandering(7, 101)).usual == ()


def test_the_order_of_rows_does_not_count() -> None:
    reference, window = sample(1_000, 1), sample(800, 2, shift=0.3)
    mixed = np.random.default_rng(0).permutation(800)
    texts = [window.categories[0][i] for i in mixed]
    other = Sample(window.numeric[mixed], [texts], window.times_ms[mixed])

    assert told(reference, other) == told(reference, window)
