import math

import numpy as np
import pytest

from training.scores import accuracy, base_rate_log_loss, brier, log_loss

P = np.array([0.9, 0.2, 0.5])
Y = np.array([1.0, 0.0, 0.0])


def test_scores_by_hand() -> None:
    assert log_loss(P, Y) == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3)
    assert brier(P, Y) == pytest.approx((0.01 + 0.04 + 0.25) / 3)
    assert accuracy(P, Y) == pytest.approx(2 / 3)
    assert base_rate_log_loss(0.5, Y) == pytest.approx(math.log(2))


def test_a_wrong_certainty_costs_much_but_not_infinitely() -> None:
    assert 10 < log_loss(np.array([0.0]), np.array([1.0])) < 20
