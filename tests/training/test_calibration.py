import numpy as np
import pytest

from training.calibration import Calibration, fit_platt, sigmoid
from training.scores import log_loss


def test_finds_the_scale_and_bias_that_made_the_labels() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 50_000)
    targets = (rng.random(50_000) < sigmoid(0.5 * logits - 1)).astype(np.float64)
    found = fit_platt(logits, targets)
    assert found.scale == pytest.approx(0.5, abs=0.03)
    assert found.bias == pytest.approx(-1, abs=0.05)
    assert log_loss(found.probabilities(logits), targets) < log_loss(sigmoid(logits), targets)
    assert found.probabilities(logits).mean() == pytest.approx(targets.mean(), abs=1e-3)


def test_minimises_the_penalised_loss() -> None:
    rng = np.random.default_rng(4)
    logits, targets = rng.normal(0, 3, 300), (rng.random(300) < 0.3).astype(np.float64)
    found = fit_platt(logits, targets)

    def loss(scale: float, bias: float) -> float:
        fit = log_loss(Calibration(scale, bias).probabilities(logits), targets) * 300
        return fit + 0.5 * (5.0 * (scale - 1) ** 2 + 0.1 * bias**2)

    best = loss(found.scale, found.bias)
    for step in (-0.01, 0.01):
        assert best <= loss(found.scale + step, found.bias)
        assert best <= loss(found.scale, found.bias + step)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_gives_finite_values(label: float) -> None:
    found = fit_platt(np.array([0.3, -2.0, 40.0]), np.full(3, label))
    assert np.isfinite([found.scale, found.bias]).all()


def test_extreme_logits_do_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    separable = fit_platt(np.array([-900.0, 900.0]), np.array([0.0, 1.0]))
    assert np.isfinite([separable.scale, separable.bias]).all()
