"""Proper scores of answers, and what else tells a good model from a bad one. numpy only.

A score is proper where the true distribution has the least expected loss (Gneiting & Raftery 2007).
"""

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task

FLOOR = 1e-7  # a probability is taken to be at least this far from 0 and 1

Floats = NDArray[np.float64]


def losses(task: Task, answers: Answers, targets: Floats) -> dict[str, Floats]:
    """Return the proper scores of each answer, (n,), smaller is better; the deciding one first.

    ``log_loss`` is the negative log likelihood, in nats: of a probability, or of a normal density
    per unit of the target, which may be below 0. Then ``brier``, of classes the sum over them, or
    ``crps``, in units of the target.
    """
    if isinstance(task, Binary):
        return {
            "log_loss": log_losses(answers.score, targets),
            "brier": (answers.score - targets) ** 2,
        }
    if isinstance(task, MultiClass):
        probabilities = _there(answers.probabilities, "probabilities")
        numbers = targets.astype(np.int64)
        own = probabilities[np.arange(len(numbers)), numbers]
        rest = (probabilities**2).sum(axis=1) - own**2
        return {
            "log_loss": -np.log(np.clip(own, FLOOR, 1.0)),
            "brier": (1 - own) ** 2 + rest,
        }
    spread = _there(answers.spread, "spread")
    return {
        "log_loss": normal_log_scores(answers.score, spread, targets),
        "crps": normal_crps(answers.score, spread, targets),
    }


def log_losses(probabilities: Floats, targets: Floats) -> Floats:
    """Return −log of the probability that was given to targets (n,) of 0 and 1, in nats."""
    p = np.clip(probabilities, FLOOR, 1 - FLOOR)
    given: Floats = -(targets * np.log(p) + (1 - targets) * np.log1p(-p))
    return given


def log_loss(probabilities: Floats, targets: Floats) -> float:
    """Return the mean negative log likelihood, in nats."""
    return float(np.mean(log_losses(probabilities, targets)))


def brier(probabilities: Floats, targets: Floats) -> float:
    """Return the mean squared difference (Brier 1950, the one-sided form in [0, 1])."""
    return float(np.mean((probabilities - targets) ** 2))


def accuracy(probabilities: Floats, targets: Floats) -> float:
    """Return the share of rows where "probability ≥ 0.5" tells the target."""
    return float(np.mean((probabilities >= 0.5) == (targets >= 0.5)))


def base_rate_log_loss(base_rate: float, targets: Floats) -> float:
    """Return the log loss of answering ``base_rate`` always: what a model must beat."""
    return log_loss(np.full(len(targets), base_rate), targets)


def normal_log_scores(means: Floats, spreads: Floats, targets: Floats) -> Floats:
    """Return −log density of the normal distributions at targets, (n,), in nats."""
    z = (targets - means) / spreads
    scores: Floats = 0.5 * z**2 + np.log(spreads) + 0.5 * np.log(2 * np.pi)
    return scores


def normal_crps(means: Floats, spreads: Floats, targets: Floats) -> Floats:
    """Return the continuous ranked probability scores of normal distributions, (n,).

    Gneiting et al. (2005), equation 5; of a spread of 0 it would be the absolute error.
    """
    from scipy.special import ndtr

    z = (targets - means) / spreads
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    scores: Floats = spreads * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return scores


def auc(scores: Floats, targets: Floats) -> float:
    """Return the probability that a 1 scores above a 0, a tie counting half; NaN of one class."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of those that tie, from 1
    positives = float(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        return float("nan")
    above = float(ranks[places] @ targets) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def average_precision(scores: Floats, targets: Floats) -> float:
    """Return Σ (Rₖ − Rₖ₋₁) Pₖ over the distinct scores from the highest down; NaN without a 1.

    P and R are precision and recall of what scores that much or more.
    """
    _, places, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.bincount(places, targets, minlength=len(counts))
    found, told = np.cumsum(hits), np.cumsum(counts)
    if not found[-1]:
        return float("nan")
    return float(np.sum(hits * found / told) / found[-1])


def _there(part: Floats | None, what: str) -> Floats:
    if part is None:
        raise ValueError(f"these answers have no {what}: they are of another task")
    return part
