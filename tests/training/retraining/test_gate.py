"""When a model may go live."""

import math

from training.retraining.gate import refusal

GOOD = {"log_loss": 0.5, "base_rate_log_loss": 0.6, "brier": 0.2}


def test_better_than_the_base_rate_passes() -> None:
    assert refusal(GOOD) is None


def test_no_better_than_the_base_rate_is_refused() -> None:
    assert "not better than" in str(refusal({**GOOD, "log_loss": 0.6}))


def test_figures_that_are_not_finite_are_refused_by_name() -> None:
    assert "brier" in str(refusal({**GOOD, "brier": math.nan}))
    assert "log_loss" in str(refusal({**GOOD, "log_loss": math.inf}))
