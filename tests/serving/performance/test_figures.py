import math

import numpy as np
import pytest
from scipy.stats import sem

from serving.monitoring.told import Told, can_be_scored, rows_of, width
from serving.performance.figures import (
    ALPHA,
    WIDTH,
    contributions,
    figures,
    judge_calibration,
    judge_log_loss,
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


def test_false_alarms_of_calibration_are_as_rare_as_they_should_be() -> None:
    runs, alpha = 1_000, 0.05
    alarms = 0
    for seed in range(runs):
        found = figures(contributions(*_sample(300, seed)).sum(axis=0))
        assert found is not None
        alarms += judge_calibration(found, 0.0, alpha).alarming

    assert alarms / runs == pytest.approx(alpha, abs=3 * math.sqrt(alpha * (1 - alpha) / runs))


def test_a_gap_beyond_threshold_and_chance_is_alarming() -> None:
    scores, labels = np.full(1_000, 0.1), (np.arange(1_000) < 300).astype(np.float64)
    found = figures(contributions(scores, labels).sum(axis=0))
    assert found is not None

    verdict = judge_calibration(found, 0.05)

    assert verdict.alarming
    assert verdict.value == pytest.approx(0.2)
    assert not judge_calibration(found, 0.25).alarming


def test_a_large_gap_on_few_labels_may_be_chance() -> None:
    found = figures(contributions(np.full(4, 0.5), np.ones(4)).sum(axis=0))
    assert found is not None

    verdict = judge_calibration(found, 0.05, ALPHA)

    assert verdict.value == pytest.approx(0.5)
    assert not verdict.alarming


@pytest.mark.parametrize(("ratio", "alarming"), [(1.1, True), (3.0, False)])
def test_log_loss_is_judged_against_validation(ratio: float, alarming: bool) -> None:
    scores, labels = _sample(2_000)
    found = figures(contributions(scores, 1 - labels).sum(axis=0))
    assert found is not None

    assert judge_log_loss(found, found.log_loss / 2, ratio).alarming is alarming


def test_log_loss_within_chance_is_not_alarming() -> None:
    scores, labels = _sample(10)
    found = figures(contributions(scores, labels).sum(axis=0))
    assert found is not None
    validation = found.log_loss - found.log_loss_error

    assert not judge_log_loss(found, validation, ratio=1.0).alarming


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


def test_a_calibrated_regression_raises_no_alarm_and_a_shifted_one_does() -> None:
    rng = np.random.default_rng(3)
    rows = np.column_stack([rng.normal(100, 50, 4_000), rng.uniform(5, 20, 4_000)])
    truth = rows[:, 0] + rows[:, 1] * rng.normal(size=4_000)
    total = contributions(rows, truth, Regression()).sum(axis=0)
    good = figures(total)
    assert good is not None
    assert good.accuracy == pytest.approx(0.9, abs=0.02)
    assert good.brier == pytest.approx(1.0, abs=0.1)
    validation = good.log_loss - 0.01
    assert not judge_log_loss(good, validation, 1.25, task=Regression()).alarming
    assert not judge_calibration(good, 0.05).alarming
    shifted = contributions(rows, truth + rows[:, 1], Regression()).sum(axis=0)
    bad = figures(shifted)
    assert bad is not None
    assert judge_log_loss(bad, validation, 1.25, task=Regression()).alarming
    assert judge_calibration(bad, 0.05).alarming


def test_the_threshold_of_a_density_lies_above_a_negative_validation_loss() -> None:
    found = figures(contributions(np.array([[0.0, 1.0]]), np.zeros(1), Regression())[0])
    assert found is not None
    verdict = judge_log_loss(found, -2.0, 1.25, task=Regression())
    assert verdict.threshold == pytest.approx(-2.0 + math.log(1.25))


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
