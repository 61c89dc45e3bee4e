"""Platt calibration: a scale and a bias on the logit, fitted on data the network has not seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SCALE_PRIOR = 5.0  # strength of "scale = 1", in units of squared logits
_BIAS_PRIOR = 0.1  # keeps the bias finite where the slice holds one class only
_MAX_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale · logit + bias)."""

    scale: float = 1.0
    bias: float = 0.0

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n,) of logits (n,)."""
        return sigmoid(self.scale * logits + self.bias)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(−x)) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def fit_platt(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
    """Return the calibration of least penalised log loss on logits (n,) and targets (n,).

    Platt (1999), solved by damped Newton steps; quadratic penalties towards scale 1 and bias 0
    replace Platt's smoothed targets, so that few or one-sided examples change little.
    """
    design = np.column_stack([logits, np.ones_like(logits)])
    prior = np.array([_SCALE_PRIOR, _BIAS_PRIOR])
    start = np.array([1.0, 0.0])

    def loss(at: NDArray[np.float64]) -> float:
        z = design @ at
        penalty = 0.5 * float(prior @ (at - start) ** 2)
        return float(np.sum(np.logaddexp(0.0, z) - targets * z)) + penalty

    at, value = start.copy(), loss(start)
    for _ in range(_MAX_STEPS):
        p = sigmoid(design @ at)
        gradient = design.T @ (p - targets) + prior * (at - start)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior)
        step = np.linalg.solve(hessian, gradient)
        damping = 1.0
        while loss(at - damping * step) > value and damping > 1e-6:
            damping /= 2
        at = at - damping * step
        value = loss(at)
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(float(at[0]), float(at[1]))
