import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.calibration import (
    LOG_VARIANCE_BOUND,
    Calibration,
    Platt,
    Spread,
    Temperature,
    begin_calibration,
    calibration_from_json,
    fit_platt,
    fit_sharpness,
    sigmoid,
)
from training.networks import losses as network_losses
from training.networks.tasks import Binary, MultiClass, Regression
from training.scores import log_loss, losses
from training.standard import Standard

CLASSES = MultiClass(("a", "b", "c"))
Floats = NDArray[np.float64]


def probabilities(calibration: Platt, logits: Floats) -> Floats:
    return calibration.answers(logits[:, None]).score


def test_finds_the_scale_and_bias_that_made_the_labels() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 50_000)
    targets = (rng.random(50_000) < sigmoid(0.5 * logits - 1)).astype(np.float64)
    found = fit_platt(logits, targets)
    assert found.scale == pytest.approx(0.5, abs=0.03)
    assert found.bias == pytest.approx(-1, abs=0.05)
    assert log_loss(probabilities(found, logits), targets) < log_loss(sigmoid(logits), targets)
    assert probabilities(found, logits).mean() == pytest.approx(targets.mean(), abs=1e-3)


def test_minimises_the_penalised_loss() -> None:
    rng = np.random.default_rng(4)
    logits, targets = rng.normal(0, 3, 300), (rng.random(300) < 0.3).astype(np.float64)
    found = fit_platt(logits, targets)

    def loss(scale: float, bias: float) -> float:
        fit = log_loss(probabilities(Platt(scale, bias), logits), targets) * 300
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


def drawn(rng: np.random.Generator, p: Floats) -> Floats:
    """Return a class number for each row of probabilities (n, C)."""
    above = rng.random(len(p))[:, None] > p.cumsum(axis=1)
    numbers: Floats = above.sum(axis=1).astype(np.float64)
    return numbers


def softmax(logits: Floats) -> Floats:
    e: Floats = np.exp(logits)
    shares: Floats = e / e.sum(axis=1, keepdims=True)
    return shares


def test_finds_the_temperature_that_made_the_labels() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (20_000, 3))
    targets = drawn(rng, softmax(logits / 2.5))
    found = Temperature().refit(logits, targets)
    assert found.to_json()["temperature"] == pytest.approx(2.5, rel=0.03)
    given = found.answers(logits).probabilities
    assert given is not None
    assert given.sum(axis=1) == pytest.approx(1.0)

    def loss(b: float) -> float:
        return float(losses(CLASSES, Temperature(b).answers(logits), targets)["log_loss"].sum())

    best = loss(found.sharpness) + 2.5 * (found.sharpness - 1) ** 2
    for step in (-0.01, 0.01):
        near = found.sharpness + step
        assert best < loss(near) + 2.5 * (near - 1) ** 2


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_temperature_is_found_for_any_size_of_logits(scale: float) -> None:
    logits = np.random.default_rng(6).normal(0, scale, (50, 3))
    for targets in (logits.argmax(axis=1), logits.argmin(axis=1)):
        assert 0 < fit_sharpness(logits, targets.astype(np.float64)) < 1e3


def test_finds_the_spread_that_made_the_targets() -> None:
    rng = np.random.default_rng(7)
    units = Standard(100.0, 20.0)
    outputs = np.column_stack([rng.normal(0, 1, 20_000), rng.normal(-1, 0.5, 20_000)])
    stated = units.deviation * np.exp(outputs[:, 1] / 2)
    targets = units.mean + units.deviation * outputs[:, 0] + 1.7 * stated * rng.normal(size=20_000)
    found = begin_calibration(Regression(), (), units).refit(outputs, targets)
    assert isinstance(found, Spread)
    assert found.scale == pytest.approx(1.7, rel=0.02)
    answers = found.answers(outputs)
    assert answers.spread is not None
    covered = np.abs(targets - answers.score) < 1.96 * answers.spread
    assert covered.mean() == pytest.approx(0.95, abs=0.01)


def test_the_log_variance_is_bounded_as_in_the_loss() -> None:
    assert LOG_VARIANCE_BOUND == network_losses.LOG_VARIANCE_BOUND
    raw = np.array([[0.0, -100.0], [0.0, 3.0], [0.0, 100.0]])
    expected = network_losses.log_variance(torch.from_numpy(raw[:, 1])).div(2).exp().numpy()
    spread = Spread().answers(raw).spread
    assert spread is not None
    np.testing.assert_allclose(spread, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "calibration",
    [
        Platt(0.9, -0.2, 1.5),
        Temperature(1 / 3.0, (0.1, 0.2, -0.3)),
        Spread(1.4, Standard(3.0, 2.0)),
    ],
)
def test_a_calibration_is_read_back_as_it_was_written(calibration: Calibration) -> None:
    plain = json.loads(json.dumps(calibration.to_json()))
    assert calibration_from_json(plain) == calibration


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration is called 'beta'"):
        calibration_from_json({"kind": "beta"})


def test_what_training_did_is_undone_before_the_fit_and_kept_in_a_refit() -> None:
    platt = begin_calibration(Binary(), (2.0,), Standard())
    assert platt.answers(np.array([[2.0]])).score.tolist() == [0.5]
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 1.5, 20_000)
    targets = (rng.random(20_000) < sigmoid(logits)).astype(np.float64)
    fitted = platt.refit(logits[:, None] + 2.0, targets)
    assert isinstance(fitted, Platt)
    assert fitted.shift == 2.0
    assert fitted.scale == pytest.approx(1, abs=0.05)
    assert fitted.bias == pytest.approx(0, abs=0.05)
    several = begin_calibration(CLASSES, (1.0, 0.0, -1.0), Standard())
    given = several.answers(np.array([[1.0, 0.0, -1.0]])).probabilities
    assert given is not None
    assert given[0] == pytest.approx(1 / 3)
