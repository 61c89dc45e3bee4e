import math

import numpy as np
import pytest
from scipy.stats import sem

from serving.monitoring.told import Told, can_be_scored, rows_of, width
from serving.performance.figures import (
    WIDTH,
    contributions,
    figures,
    names,
)
from training.networks.tasks import Binary, MultiClass, Regression
from training.scores import FLOOR


def _sample(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, n)
    return scores, (rng.random(n) < scores).astype(np.float64)


def test_figures_are_the_textbook_ones() -> None:
    scores, labels = _sample(5_000)
    losses = -(labels * np.log(scores) + (1 - labels) * np.log(1 - scores))
    errors = (scores - labels) ** 2
    hits = ((scores >= 0.5) == (labels == 1)).astype(float)

    found = figures(contributions(scores, labels).sum(axis=0))

    assert found is not None
    assert found.n == 5_000
    assert found.log_loss == pytest.approx(losses.mean(), abs=1e-8)
    assert found.log_loss_error == pytest.approx(sem(losses), rel=1e-6)
    assert found.brier == pytest.approx(errors.mean(), abs=1e-8)
    assert found.brier_error == pytest.approx(sem(errors), rel=1e-6)
    assert found.accuracy == pytest.approx(hits.mean())
    assert found.accuracy_error == pytest.approx(sem(hits), rel=1e-6)
    assert found.calibration_gap == pytest.approx(abs(scores.mean() - labels.mean()), abs=1e-8)


def test_sums_are_the_same_to_the_last_bit_in_any_order() -> None:
    scores, labels = _sample(3_000)
    order = np.random.default_rng(2).permutation(3_000)

    forward = contributions(scores, labels).sum(axis=0)
    shuffled = contributions(scores[order], labels[order])
    pieces = shuffled[:700].sum(axis=0) + shuffled[700:].sum(axis=0)

    assert np.array_equal(forward, pieces)


def test_a_certain_mistake_costs_much_but_not_infinitely() -> None:
    found = figures(contributions(np.array([0.0, 1.0]), np.array([1.0, 1.0])).sum(axis=0))

    assert found is not None
    assert found.log_loss == pytest.approx(-math.log(FLOOR) / 2, rel=1e-6)


def test_nothing_has_no_figures() -> None:
    assert figures(np.zeros(WIDTH, dtype=np.int64)) is None


CLASSES = MultiClass(("a", "b", "c"))


def test_figures_of_several_classes_by_hand() -> None:
    rows = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    found = figures(contributions(rows, np.array([1.0, 2.0]), CLASSES).sum(axis=0))
    assert found is not None
    assert found.log_loss == pytest.approx(-(math.log(0.3) + math.log(0.7)) / 2, abs=1e-7)
    assert found.brier == pytest.approx((0.25 + 0.49 + 0.04 + 0.01 + 0.04 + 0.09) / 2, abs=1e-7)
    assert found.accuracy == 0.5
    assert found.calibration_gap == pytest.approx(0.1, abs=1e-7)  # says 0.6, is right in 0.5


def test_figures_of_a_regression_by_hand() -> None:
    rows = np.array([[10.0, 2.0], [0.0, 1.0], [5.0, 1.0], [5.0, 1.0]])
    labels = np.array([11.0, 2.0, 4.0, 1e6])
    found = figures(contributions(rows, labels, Regression()).sum(axis=0))
    assert found is not None
    constant = 0.5 * math.log(2 * math.pi)
    losses = [0.125 + math.log(2) + constant, 2 + constant, 0.5 + constant, 50.0]
    assert found.log_loss == pytest.approx(sum(losses) / 4, abs=1e-7)
    assert found.brier == pytest.approx((0.25 + 4 + 1 + 50) / 4, abs=1e-7)
    assert found.accuracy == 0.5
    assert found.calibration_gap == pytest.approx(0.25)
    assert names(Regression())["accuracy"] == "within_90"


def test_a_calibrated_regression_looks_like_one() -> None:
    rng = np.random.default_rng(3)
    rows = np.column_stack([rng.normal(100, 50, 4_000), rng.uniform(5, 20, 4_000)])
    truth = rows[:, 0] + rows[:, 1] * rng.normal(size=4_000)
    good = figures(contributions(rows, truth, Regression()).sum(axis=0))
    shifted = figures(contributions(rows, truth + rows[:, 1], Regression()).sum(axis=0))
    assert good is not None
    assert shifted is not None
    assert good.accuracy == pytest.approx(0.9, abs=0.02)
    assert good.brier == pytest.approx(1.0, abs=0.1)
    assert good.calibration_gap < 3 * good.calibration_error
    assert shifted.log_loss > good.log_loss + np.log(1.25)
    assert shifted.calibration_gap > 0.3


def test_a_prediction_is_told_as_its_task_has_it_and_else_not_scored() -> None:
    told = [
        Told("1", 0.5, 1, 0, {"a": 0.2, "b": 0.5, "c": 0.3}),
        Told("2", 7.0, 1, 0, None, 2.0),
        Told("3", 7.0, 0, 0),
    ]
    assert rows_of(Binary(), told).tolist() == [0.5, 7.0, 7.0]
    for task, scored in ((CLASSES, [True, False, False]), (Regression(), [False, True, False])):
        rows = rows_of(task, told)
        assert rows.shape == (3, width(task))
        assert can_be_scored(rows).tolist() == scored
        assert rows_of(task, []).shape == (0, width(task))
    assert rows_of(CLASSES, told)[0].tolist() == [0.2, 0.5, 0.3]
    assert rows_of(Regression(), told)[1].tolist() == [7.0, 2.0]
