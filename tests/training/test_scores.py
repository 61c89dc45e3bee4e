import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Regression
from training.scores import (
    accuracy,
    auc,
    average_precision,
    base_rate_log_loss,
    brier,
    log_loss,
    losses,
)

P = np.array([0.9, 0.2, 0.5])
Y = np.array([1.0, 0.0, 0.0])


def test_scores_by_hand() -> None:
    assert log_loss(P, Y) == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3)
    assert brier(P, Y) == pytest.approx((0.01 + 0.04 + 0.25) / 3)
    assert accuracy(P, Y) == pytest.approx(2 / 3)
    assert base_rate_log_loss(0.5, Y) == pytest.approx(math.log(2))


def test_a_wrong_certainty_costs_much_but_not_infinitely() -> None:
    assert 10 < log_loss(np.array([0.0]), np.array([1.0])) < 20


def test_the_losses_of_each_answer_have_the_scores_as_means() -> None:
    found = losses(Binary(), Answers(P), Y)
    assert list(found) == ["log_loss", "brier"]
    assert found["log_loss"].mean() == pytest.approx(log_loss(P, Y))
    assert found["brier"].mean() == pytest.approx(brier(P, Y))


def test_several_classes_by_hand() -> None:
    answers = Answers.of_classes(np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]]))
    assert answers.score.tolist() == [0.5, 1.0]
    found = losses(MultiClass(("a", "b", "c")), answers, np.array([1.0, 2.0]))
    assert found["log_loss"] == pytest.approx([-math.log(0.3), 0.0])
    assert found["brier"] == pytest.approx([0.25 + 0.49 + 0.04, 0.0])


def test_the_scores_of_a_normal_distribution() -> None:
    mean, spread, target = 1.0, 2.0, 2.5
    found = losses(
        Regression(), Answers(np.array([mean]), spread=np.array([spread])), np.array([target])
    )
    assert found["log_loss"][0] == pytest.approx(-norm.logpdf(target, mean, spread))

    def difference(x: float) -> float:
        return float((norm.cdf(x, mean, spread) - (x >= target)) ** 2)

    integral = quad(difference, -20, target)[0] + quad(difference, target, 20)[0]
    assert found["crps"][0] == pytest.approx(integral, abs=1e-6)


def test_answers_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="no spread"):
        losses(Regression(), Answers(P), Y)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_auc_and_average_precision_are_exact_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(20):
        n = int(rng.integers(2, 40))
        scores = rng.integers(0, levels, n) / levels
        targets = np.zeros(n)
        targets[: int(rng.integers(1, n))] = 1
        pairs = [
            (a > b) + 0.5 * (a == b) for a in scores[targets == 1] for b in scores[targets == 0]
        ]
        assert auc(scores, targets) == pytest.approx(np.mean(pairs))
        precision, recall_before = 0.0, 0.0
        for threshold in sorted(set(scores.tolist()), reverse=True):
            told = scores >= threshold
            recall = targets[told].sum() / targets.sum()
            precision += (recall - recall_before) * targets[told].mean()
            recall_before = recall
        assert average_precision(scores, targets) == pytest.approx(precision)


def test_the_ranking_of_a_single_class_is_unknown() -> None:
    assert math.isnan(auc(P, np.ones(3)))
    assert math.isnan(auc(P, np.zeros(3)))
    assert math.isnan(average_precision(P, np.zeros(3)))
