import importlib
from typing import Any

import numpy as np
import pytest

from serving.performance import ranking

_METRICS: Any = importlib.import_module("sklearn.metrics")  # it has no types


def _told(n: int, center: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-rng.normal(center, 1.5, n)))
    return scores, (rng.random(n) < scores).astype(np.float64)


@pytest.mark.parametrize("center", [0.0, -3.0, -6.0])
def test_areas_are_scikit_learns_within_the_error_that_is_known(center: float) -> None:
    scores, labels = _told(20_000, center, 1)
    counts = ranking.histogram(scores, labels > 0.5)
    area, precision = (
        _METRICS.roc_auc_score(labels, scores),
        _METRICS.average_precision_score(labels, scores),
    )

    assert counts.sum() == 20_000
    assert abs(ranking.auc(counts).value - area) <= ranking.auc_error(counts) < 0.01
    low, high = ranking.average_precision_bounds(counts)
    assert low <= precision <= high
    assert low <= ranking.average_precision(counts).value <= high < low + 0.02
    assert ranking.auc(counts).value == pytest.approx(area, abs=1e-3)
    assert ranking.average_precision(counts).value == pytest.approx(precision, abs=3e-3)


def test_scores_that_fill_a_bin_each_are_told_exactly() -> None:
    rng = np.random.default_rng(2)
    scores = ranking.EDGES[rng.integers(0, len(ranking.EDGES), 3_000)]
    labels = (rng.random(3_000) < 0.3).astype(np.float64)
    counts = ranking.histogram(scores, labels > 0.5)

    assert ranking.auc(counts).value == pytest.approx(_METRICS.roc_auc_score(labels, scores))
    precision = _METRICS.average_precision_score(labels, scores)
    assert ranking.average_precision(counts).value == pytest.approx(precision)


def test_histograms_of_parts_add_up() -> None:
    scores, labels = _told(5_000, 0.0, 3)
    parts = [
        ranking.histogram(scores[part], labels[part] > 0.5)
        for part in (slice(0, 1_200), slice(1_200, None))
    ]
    assert np.array_equal(sum(parts), ranking.histogram(scores, labels > 0.5))


def test_intervals_hold_what_is_true_as_often_as_they_say() -> None:
    everything = _told(400_000, -1.0, 4)
    area, precision = (
        _METRICS.roc_auc_score(*everything[::-1]),
        _METRICS.average_precision_score(*everything[::-1]),
    )
    runs, found = 400, np.zeros(2)
    for seed in range(runs):
        scores, labels = _told(400, -1.0, 100 + seed)
        counts = ranking.histogram(scores, labels > 0.5)
        for i, (bounds, true) in enumerate(
            ((ranking.auc(counts), area), (ranking.average_precision(counts), precision))
        ):
            assert bounds.low is not None
            assert bounds.high is not None
            found[i] += bounds.low <= true <= bounds.high

    assert found[0] / runs == pytest.approx(0.95, abs=0.03)
    # Boyd, Eng and Page's interval holds at least what it says where precision is middling.
    assert found[1] / runs >= 0.92


def test_one_label_alone_or_all_in_order_gives_no_certainty() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    missing = ranking.histogram(scores, np.zeros(4, bool))
    perfect = ranking.auc(ranking.histogram(scores, scores > 0.5))

    assert np.isnan(ranking.auc(missing).value)
    assert np.isnan(ranking.average_precision(missing).value)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low is not None
    assert perfect.low < 0.5
