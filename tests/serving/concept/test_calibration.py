"""Calibration against validation's, and what loss the scores let expect."""

import numpy as np
import pytest

from serving.concept.calibration import (
    EstimatedLoss,
    calibration_shift,
    estimated_loss,
)
from serving.concept.detector import Floats
from serving.concept.losses import log_loss_of_each
from serving.concept.score_sums import (
    add_by_cell,
    by_cell,
    expected_losses,
    groups_of,
    hits,
    top_scores,
)
from serving.monitoring.windows import StepSums
from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task
from training.score_reference import CELLS, cells
from training.validation_scores import calibration_sums

THREE = MultiClass(("a", "b", "c"))


def _estimate(task: Task, scores: Floats, validation: Floats | None) -> EstimatedLoss:
    entropy, gain = expected_losses(task, scores)
    columns = np.stack([entropy, gain, entropy**2], axis=1)
    counts, sums = _by_cell(top_scores(task, scores), columns)
    found = estimated_loss(counts, sums, validation)
    assert found is not None
    return found


def _by_cell(scores: Floats, columns: Floats) -> tuple[Floats, Floats]:
    sums, n = StepSums(1_000), len(scores)
    add_by_cell(sums, np.ones(n, np.int64), np.zeros(n, np.int64), scores, columns)
    total = sums.window("1", 0, 1_000)
    assert total is not None
    return by_cell(total, columns.shape[1])


def _classes(rng: np.random.Generator, probabilities: Floats) -> Floats:
    below = rng.random(len(probabilities))[:, None] > probabilities.cumsum(axis=1)
    found: Floats = np.minimum(below.sum(axis=1), 2).astype(np.float64)
    return found


def test_the_estimate_is_the_true_loss_where_inputs_have_shifted() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((2, 18), (2, 4), (5, 5)):  # from easy events to hard ones
        scores = rng.beta(low, high, 40_000)
        labels = (rng.random(40_000) < scores).astype(np.float64)
        found = _estimate(Binary(), scores, None)
        true = float(log_loss_of_each(Binary(), scores, labels).mean())
        assert found.value == pytest.approx(true, abs=0.008)

    for alphas in ((8, 1, 1), (2, 2, 2)):
        probabilities = rng.dirichlet(alphas, 40_000)
        labels = _classes(rng, probabilities)
        found = _estimate(THREE, probabilities, None)
        true = float(log_loss_of_each(THREE, probabilities, labels).mean())
        assert found.value == pytest.approx(true, abs=0.012)


@pytest.mark.parametrize("off", [0.6, 1.6])
def test_what_validation_showed_of_the_scores_puts_the_estimate_right(off: float) -> None:
    """A model too sure of itself, or not sure enough; on other events than in validation."""
    rng = np.random.default_rng(1)

    def events(low: float, high: float, n: int) -> tuple[Floats, Floats]:
        true = rng.beta(low, high, n)
        told = true**off / (true**off + (1 - true) ** off)
        return told, (rng.random(n) < true).astype(np.float64)

    told, labels = events(2, 5, 60_000)
    validation = calibration_sums(Binary(), Answers(told), labels)
    scores, turned_out = events(3, 4, 60_000)
    true_loss = float(log_loss_of_each(Binary(), scores, turned_out).mean())
    plain, right = _estimate(Binary(), scores, None), _estimate(Binary(), scores, validation)
    assert abs(plain.value - true_loss) > 0.03
    assert right.value == pytest.approx(true_loss, abs=0.012)


def test_the_estimate_of_classes_is_put_right_too() -> None:
    rng = np.random.default_rng(2)

    def events(alphas: tuple[int, int, int]) -> tuple[Floats, Floats]:
        true = rng.dirichlet(alphas, 60_000)
        sure = true**1.6 / (true**1.6).sum(axis=1, keepdims=True)
        return sure, _classes(rng, true)

    told, labels = events((2, 1, 1))
    validation = calibration_sums(THREE, Answers.of_classes(told), labels)
    scores, turned_out = events((2, 2, 1))
    true_loss = float(log_loss_of_each(THREE, scores, turned_out).mean())
    plain, right = _estimate(THREE, scores, None), _estimate(THREE, scores, validation)
    assert abs(right.value - true_loss) < 0.5 * abs(plain.value - true_loss)


def test_the_estimate_does_not_see_a_world_that_contradicts_the_scores() -> None:
    scores = np.random.default_rng(3).beta(2, 8, 10_000)
    assert _estimate(Binary(), scores, None) == _estimate(Binary(), scores.copy(), None)
    wrong = log_loss_of_each(Binary(), scores, 1 - (scores > 0.5).astype(np.float64))
    assert wrong.mean() > 3 * _estimate(Binary(), scores, None).value


def test_its_chance_is_that_of_its_error() -> None:
    found = EstimatedLoss(0.52, 0.01, 1_000)
    assert found.chance(0.52, 1e9, 1.0) == pytest.approx(0.5)
    assert found.chance(0.50, 1e9, 1.0) == pytest.approx(0.0228, abs=1e-3)
    assert found.chance(0.50, 1e9, 4.0) == pytest.approx(0.1587, abs=1e-3)
    assert found.chance(0.50, 1_000, 1.0) == pytest.approx(0.0786, abs=1e-3)
    assert found.chance(0.1, 0, 1.0) == 1.0
    assert EstimatedLoss(0.5, 0.0, 9).chance(0.1, 1e9, 1.0) == 1.0


def test_nothing_is_estimated_of_no_answers() -> None:
    assert estimated_loss(np.zeros(CELLS), np.zeros((CELLS, 3)), None) is None


def _shift(scores: Floats, labels: Floats, validation: Floats, dispersion: float = 1.0) -> float:
    counts, sums = _by_cell(scores, np.stack([scores, labels], axis=1))
    found = calibration_shift(counts, sums[:, 0], sums[:, 1], validation, dispersion)
    assert found is not None
    return found.chance


def test_the_chance_of_a_calibration_shift_is_uniform_without_one() -> None:
    rng = np.random.default_rng(4)
    given, wide = [], []
    for _ in range(400):
        scores = rng.beta(2, 8, (2, 2_000))
        labels = (rng.random((2, 2_000)) < scores**0.9).astype(
            np.float64
        )  # ill calibrated, as ever
        validation = calibration_sums(Binary(), Answers(scores[0]), labels[0])
        assert validation is not None
        given.append(_shift(scores[1], labels[1], validation))
        wide.append(_shift(scores[1], labels[1], validation, dispersion=3.0))
    assert np.mean(np.array(given) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(np.array(given) < 0.5) == pytest.approx(0.5, abs=0.08)
    assert min(wide) > 1e-3
    assert np.mean(wide) > np.mean(given)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_class_alone_are_no_shift_where_they_always_were(label: float) -> None:
    scores = np.random.default_rng(5).uniform(0.4, 0.6, 3_000)
    labels = np.full(3_000, label)
    validation = calibration_sums(Binary(), Answers(scores), labels)
    assert validation is not None
    assert _shift(scores, labels, validation) > 0.9
    assert _shift(scores, 1 - labels, validation) < 1e-100


def test_groups_with_too_few_rows_are_left_out() -> None:
    scores = np.full(1_000, 0.25)
    few = calibration_sums(Binary(), Answers(scores[:40]), np.zeros(40))
    assert few is not None
    counts, sums = _by_cell(scores, np.stack([scores, scores], axis=1))
    assert calibration_shift(counts, sums[:, 0], sums[:, 1], few, 1.0) is None


def test_groups_are_of_neighbours_and_about_equally_large() -> None:
    at = cells(np.random.default_rng(6).beta(2, 8, 50_000))
    counts = np.bincount(at, minlength=CELLS).astype(np.float64)
    group = groups_of(counts, 10)
    assert (np.diff(group) >= 0).all()
    assert group.max() == 9
    sizes = np.bincount(group, counts)
    assert sizes.min() > 0.04 * counts.sum()
    assert groups_of(np.zeros(CELLS), 10).max() == 0
    one = groups_of(np.eye(CELLS)[3], 10)  # all in one cell
    assert np.flatnonzero(one == one[3]).tolist() == [3]


def test_hits_are_label_one_or_the_most_probable_class() -> None:
    assert hits(Binary(), np.array([0.1, 0.9]), np.array([1.0, 0.0])).tolist() == [1, 0]
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    assert hits(THREE, probabilities, np.array([0.0, 1.0])).tolist() == [1, 0]
    assert top_scores(THREE, probabilities).tolist() == [0.5, 0.7]
