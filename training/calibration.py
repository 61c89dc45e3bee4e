"""From a network's outputs to answers that mean what they say.

Fitted on a later slice that the network has not learnt from. Each kind first undoes, in closed
form, what training did to the outputs (:mod:`training.correction`, :mod:`training.standard`), and
then fits the one or two numbers that the slice can tell.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task
from training.standard import Standard

Floats = NDArray[np.float64]

LOG_VARIANCE_BOUND = 10.0
"""As in :mod:`training.networks.losses`; a test holds the two together."""

_SCALE_PRIOR = 5.0  # strength of "scale = 1", in units of squared logits
_BIAS_PRIOR = 0.1  # keeps the bias finite where the slice holds one class only
_SPREAD_PRIOR = 5.0  # strength of "spread = 1", in examples
_MAX_STEPS = 50
_TOLERANCE = 1e-10


class Calibration(ABC):
    """Makes answers of outputs (n, O)."""

    @abstractmethod
    def answers(self, outputs: Floats) -> Answers:
        """Return the calibrated answers of outputs (n, O)."""

    @abstractmethod
    def refit(self, outputs: Floats, targets: Floats) -> Calibration:
        """Return one that undoes the same, fitted to outputs (n, O) and targets (n,)."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; ``kind`` names which it is."""


@dataclass(frozen=True)
class Platt(Calibration):
    """probability = sigmoid(scale · (logit − shift) + bias) of one logit (Platt 1999)."""

    scale: float = 1.0
    bias: float = 0.0
    shift: float = 0.0

    def answers(self, outputs: Floats) -> Answers:
        """Return probabilities of label 1 from logits (n, 1)."""
        return Answers(sigmoid(self.scale * (outputs[:, 0] - self.shift) + self.bias))

    def refit(self, outputs: Floats, targets: Floats) -> Platt:
        """Return the scale and bias of least penalised log loss on targets (n,) of 0 and 1."""
        return replace(fit_platt(outputs[:, 0] - self.shift, targets), shift=self.shift)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"kind": "platt", "scale": self.scale, "bias": self.bias, "shift": self.shift}


@dataclass(frozen=True)
class Temperature(Calibration):
    """probabilities = softmax(sharpness · (logits − shifts)) (Guo et al. 2017).

    ``sharpness`` is one over the temperature: in it the log loss is convex.
    """

    sharpness: float = 1.0
    shifts: tuple[float, ...] = ()

    def answers(self, outputs: Floats) -> Answers:
        """Return the probabilities of logits (n, C)."""
        return Answers.of_classes(np.exp(_log_softmax(self.sharpness * self._undone(outputs))))

    def refit(self, outputs: Floats, targets: Floats) -> Temperature:
        """Return the sharpness of least penalised log loss on class numbers (n,)."""
        return replace(self, sharpness=fit_sharpness(self._undone(outputs), targets))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        shifts = list(self.shifts)
        return {"kind": "temperature", "temperature": 1 / self.sharpness, "shifts": shifts}

    def _undone(self, outputs: Floats) -> Floats:
        return outputs - np.asarray(self.shifts) if self.shifts else outputs


@dataclass(frozen=True)
class Spread(Calibration):
    """A normal distribution: the network's mean, and its deviation times ``scale``."""

    scale: float = 1.0
    standard: Standard = field(default_factory=Standard)

    def answers(self, outputs: Floats) -> Answers:
        """Return mean and deviation, in the target's units, of outputs (n, 2)."""
        units = self.standard
        mean = units.mean + units.deviation * outputs[:, 0]
        return Answers(mean, spread=units.deviation * self.scale * _deviations(outputs))

    def refit(self, outputs: Floats, targets: Floats) -> Spread:
        """Return the scale of greatest likelihood on targets (n,), drawn a little towards 1.

        It has a closed form: the root mean square of (target − mean) / deviation.
        """
        errors = (self.standard.standardised(targets) - outputs[:, 0]) / _deviations(outputs)
        square = (float(errors @ errors) + _SPREAD_PRIOR) / (len(errors) + _SPREAD_PRIOR)
        return replace(self, scale=math.sqrt(square))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"kind": "spread", "scale": self.scale, "standard": self.standard.to_json()}


def begin_calibration(task: Task, shifts: tuple[float, ...], standard: Standard) -> Calibration:
    """Return a calibration of ``task`` that undoes ``shifts`` or ``standard``, not fitted yet."""
    match task:
        case Binary():
            return Platt(shift=shifts[0] if shifts else 0.0)
        case MultiClass():
            return Temperature(shifts=shifts)
        case _:
            return Spread(standard=standard)


def calibration_from_json(content: Mapping[str, Any]) -> Calibration:
    """Return what ``to_json`` wrote; KeyError, TypeError or ValueError where it is none."""
    match content["kind"]:
        case "platt":
            return Platt(*(float(content[name]) for name in ("scale", "bias", "shift")))
        case "temperature":
            return Temperature(
                1 / float(content["temperature"]), tuple(map(float, content["shifts"]))
            )
        case "spread":
            return Spread(float(content["scale"]), Standard.from_json(content["standard"]))
        case other:
            raise ValueError(f"no calibration is called {other!r}")


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(−x)) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def fit_platt(logits: Floats, targets: Floats) -> Platt:
    """Return the calibration of least penalised log loss on logits (n,) and targets (n,).

    Platt (1999), solved by damped Newton steps; quadratic penalties towards scale 1 and bias 0
    replace Platt's smoothed targets, so that few or one-sided examples change little.
    """
    design = np.column_stack([logits, np.ones_like(logits)])
    prior = np.array([_SCALE_PRIOR, _BIAS_PRIOR])
    start = np.array([1.0, 0.0])

    def loss(at: Floats) -> float:
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
        if np.abs(step).max() < _TOLERANCE:
            break
    return Platt(float(at[0]), float(at[1]))


def fit_sharpness(logits: Floats, targets: Floats) -> float:
    """Return the b > 0 of least penalised log loss of softmax(b · logits), (n, C), on targets (n,).

    The loss is convex in b, its slope monotone: Newton steps within a bracket that shrinks.
    """
    own = logits[np.arange(len(logits)), targets.astype(np.int64)]

    def slope_and_curvature(b: float) -> tuple[float, float]:
        p = np.exp(_log_softmax(b * logits))
        mean = (p * logits).sum(axis=1)
        variance = (p * logits**2).sum(axis=1) - mean**2
        return float((mean - own).sum()) + _SCALE_PRIOR * (b - 1), float(
            variance.sum()
        ) + _SCALE_PRIOR

    low, high, b = 1e-3, 1e3, 1.0
    for _ in range(_MAX_STEPS):
        slope, curvature = slope_and_curvature(b)
        low, high = (b, high) if slope < 0 else (low, b)
        step = b - slope / curvature
        following = step if low < step < high else (low + high) / 2
        if abs(following - b) < _TOLERANCE:
            break
        b = following
    return b


def _log_softmax(logits: Floats) -> Floats:
    above = logits - logits.max(axis=1, keepdims=True)
    logs: Floats = above - np.log(np.exp(above).sum(axis=1, keepdims=True))
    return logs


def _deviations(outputs: Floats) -> Floats:
    """Return exp(log variance / 2) of outputs (n, 2), whose second column is not bounded yet."""
    deviations: Floats = np.exp(
        LOG_VARIANCE_BOUND * np.tanh(outputs[:, 1] / LOG_VARIANCE_BOUND) / 2
    )
    return deviations
