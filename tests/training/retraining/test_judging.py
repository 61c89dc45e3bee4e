"""What a trained network is worth, by hand."""

import math

import numpy as np
import pytest

from streams.errors import TrainingError
from training.answers import Answers
from training.calibration import Platt
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.retraining.gate import refusal
from training.retraining.judging import calibrated, figures, trivial
from training.scores import losses

CLASSES = MultiClass(("a", "b", "c"))
TARGETS: list[tuple[Task, list[float]]] = [
    (Binary(), [0, 1, 1, 0, 1]), (CLASSES, [0, 2, 1, 2, 2]), (Regression(), [3, 5, 4, 9, -1]),
]  # fmt: skip


@pytest.mark.parametrize(("task", "targets"), TARGETS)
def test_every_task_has_a_log_loss_beside_that_of_the_trivial_answer(
    task: Task, targets: list[float]
) -> None:
    found = np.array(targets, np.float64)
    base = trivial(task, found, 5)
    metrics = figures(task, base, found, found)
    assert metrics["log_loss"] == metrics["base_rate_log_loss"]
    assert refusal(metrics) is not None, "no better than the trivial answer"
    assert metrics["log_loss"] == pytest.approx(losses(task, base, found)["log_loss"].mean())


def test_figures_of_two_classes() -> None:
    answers = Answers(np.array([0.9, 0.8, 0.3]))
    metrics = figures(Binary(), answers, np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0]))
    assert metrics["auc"] == 1.0
    assert metrics["average_precision"] == 1.0
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["base_rate_log_loss"] == pytest.approx(math.log(2))


def test_what_can_not_be_told_of_a_single_class_is_left_out() -> None:
    metrics = figures(Binary(), Answers(np.array([0.9, 0.8])), np.zeros(2), np.array([1.0, 0.0]))
    assert "auc" not in metrics
    assert "average_precision" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_figures_of_several_classes() -> None:
    answers = Answers.of_classes(np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]))
    metrics = figures(CLASSES, answers, np.array([0.0, 1.0]), np.array([0.0, 0.0, 1.0]))
    assert metrics["accuracy"] == 0.5
    assert metrics["log_loss"] == pytest.approx((math.log(2) + math.log(5)) / 2)
    # a, a, b, each class counted once more than it came: 3/6, 2/6, 1/6
    assert metrics["base_rate_log_loss"] == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_figures_of_a_regression() -> None:
    answers = Answers(np.array([1.0, 4.0]), spread=np.array([1.0, 2.0]))
    metrics = figures(Regression(), answers, np.array([2.0, 2.0]), np.array([0.0, 4.0]))
    assert metrics["rmse"] == pytest.approx(math.sqrt(2.5))
    assert metrics["mae"] == pytest.approx(1.5)
    constant = 0.5 * math.log(2 * math.pi)
    assert metrics["base_rate_log_loss"] == pytest.approx(math.log(2) + constant)


def test_outputs_that_are_no_numbers_are_a_diverged_training() -> None:
    with pytest.raises(TrainingError, match="diverged"):
        calibrated(Platt(), np.array([[np.nan]]), np.zeros(1))
