import math

import numpy as np
import pytest

from serving.performance.sums import RANKED, scored, totals_of
from serving.performance.telling import Told, calibration_error, told
from tests.serving.performance.matched import Floats, calibrated
from training.networks.tasks import Binary, MultiClass, Regression, Task


def _steps(scores: Floats, labels: Floats, task: Task, days: int = 1) -> np.ndarray:
    pairs = scored(scores, labels, task)
    cells = np.arange(len(labels)) * days // len(labels)
    return totals_of(pairs, cells, days, ranked=True)


def _told(scores: Floats, labels: Floats, task: Task | None = None, days: int = 1) -> Told:
    found = told(_steps(scores, labels, task or Binary(), days), task or Binary())
    assert found is not None
    return found


def test_expected_calibration_error_by_hand() -> None:
    scores = np.array([0.05, 0.05, 0.25, 0.25, 0.25, 0.25, 0.95, 0.95])
    labels = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    found = calibration_error(_steps(scores, labels, Binary())[0], Binary())
    assert found.value == pytest.approx((2 * 0.45 + 4 * 0.0 + 2 * 0.05) / 8)


def test_of_several_classes_it_is_that_of_the_most_probable() -> None:
    rows = np.array([[0.7, 0.2, 0.1]] * 10)
    labels = np.array([0.0] * 5 + [1.0] * 5)
    task = MultiClass(("a", "b", "c"))
    assert calibration_error(_steps(rows, labels, task)[0], task).value == pytest.approx(0.2)


def test_of_a_regression_it_is_how_often_quantiles_hold() -> None:
    task = Regression()
    rows = np.tile([0.0, 1.0], (1_000, 1))
    good = _steps(rows, np.random.default_rng(1).normal(size=1_000), task)[0]
    late = _steps(rows, np.full(1_000, 9.0), task)[0]
    assert calibration_error(good, task).value < 0.03
    assert calibration_error(late, task).value == pytest.approx(0.5)


def test_calibration_error_of_a_calibrated_model_may_be_nothing_and_another_is_not() -> None:
    scores, labels = calibrated(2_000, 2)
    good = calibration_error(_steps(scores, labels, Binary())[0], Binary())
    bad = calibration_error(_steps(np.clip(scores * 1.3, 0, 1), labels, Binary())[0], Binary())
    assert good.low == 0
    assert good.high is not None
    assert bad.low is not None
    assert good.value < good.high < 0.06
    assert bad.low > 0.05


@pytest.mark.parametrize("days", [1, 14], ids=["one step", "two weeks"])
def test_false_alarms_of_a_calibrated_model_are_as_rare_as_they_should_be(days: int) -> None:
    runs, alpha = 800, 0.05
    alarms = 0
    for seed in range(runs):
        found = _told(*calibrated(420, seed), days=days)
        alarms += 2 * found.gap_error.chance(found.figures.calibration_gap) < alpha
    most = alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    # Of two errors the larger counts, so over several steps it is rarer than that.
    assert alarms / runs < most
    assert alarms / runs > (alpha - (most - alpha) if days == 1 else 0.01)


def test_a_loss_that_moves_by_the_day_is_known_less_well() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat((rng.random(14) < 0.5).astype(np.float64), 100)
    scores = np.full(1_400, 0.4)
    shuffled = rng.permutation(labels)
    moving, still = _told(scores, labels, days=14), _told(scores, shuffled, days=14)
    assert moving.loss_error.half() > 5 * still.loss_error.half()
    assert moving.bounds["log_loss"].value == still.bounds["log_loss"].value
    high = moving.bounds["accuracy"].high
    assert high is not None
    assert high - moving.bounds["accuracy"].value > 0.2


def test_what_a_task_has_not_is_not_told() -> None:
    one_label = _told(np.full(50, 0.3), np.zeros(50))
    assert "auc" not in one_label.bounds
    assert "average_precision" not in one_label.bounds
    regression = _told(np.tile([0.0, 1.0], (50, 1)), np.zeros(50), Regression())
    assert list(regression.bounds) == [
        "log_loss", "squared_error_in_spreads", "within_90", "calibration_gap",
        "expected_calibration_error",
    ]  # fmt: skip
    assert told(np.zeros((0, 0), np.int64), Binary()) is None
    assert told(np.zeros((2, RANKED), np.int64), Binary()) is None
