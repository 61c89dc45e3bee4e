"""Proper scores of probabilities against 0/1 targets. numpy only."""

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-7  # a probability is taken to be at least this far from 0 and 1


def log_loss(probabilities: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the mean negative log likelihood, in nats."""
    p = np.clip(probabilities, FLOOR, 1 - FLOOR)
    return float(-np.mean(targets * np.log(p) + (1 - targets) * np.log1p(-p)))


def brier(probabilities: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the mean squared difference (Brier 1950, the one-sided form in [0, 1])."""
    return float(np.mean((probabilities - targets) ** 2))


def accuracy(probabilities: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the share of rows where "probability ≥ 0.5" tells the target."""
    return float(np.mean((probabilities >= 0.5) == (targets >= 0.5)))


def base_rate_log_loss(base_rate: float, targets: NDArray[np.float64]) -> float:
    """Return the log loss of answering ``base_rate`` always: what a model must beat."""
    return log_loss(np.full(len(targets), base_rate), targets)
