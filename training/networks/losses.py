"""The loss of one example, per task: negative log likelihoods, in nats. torch alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.parallel.strategy import Loss

LOG_VARIANCE_BOUND = 10.0
"""A regression's log variance stays within ± this, in units of the standardised target: a network
that is sure of one training example must not make the loss endless."""


def loss_of(task: Task) -> Loss:
    """Return the loss of ``task``: from outputs (n, O) and targets (n,) to (n,).

    Targets are 0 or 1, class numbers, or standardised numbers, in any type. What the outputs
    mean: one logit; one logit per class; a mean and what :func:`log_variance` bounds.
    """
    match task:
        case Binary():
            return binary_loss
        case MultiClass():
            return multi_class_loss
        case Regression():
            return normal_loss


def shifted(loss: Loss, shifts: Sequence[float]) -> Loss:
    """Return ``loss`` of outputs from which ``shifts`` (O,) are taken: see
    :mod:`training.correction`. Without shifts it is the loss itself."""
    if not any(shifts):
        return loss
    return lambda outputs, targets: loss(outputs - outputs.new_tensor(shifts), targets)


def binary_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return −log of the probability that a logit, outputs (n, 1), gives targets (n,) of 0 or 1."""
    return functional.binary_cross_entropy_with_logits(
        outputs[:, 0], targets.to(outputs.dtype), reduction="none"
    )


def multi_class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return −log of the probability that logits (n, C) give to class numbers (n,)."""
    return functional.cross_entropy(outputs, targets.long(), reduction="none")


def normal_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return −log of the normal density of means and log variances (n, 2) at targets (n,)."""
    log_variances = log_variance(outputs[:, 1])
    errors = (targets.to(outputs.dtype) - outputs[:, 0]) ** 2
    constant = math.log(2 * math.pi)
    return 0.5 * (log_variances + errors * torch.exp(-log_variances) + constant)


def log_variance(raw: Tensor) -> Tensor:
    """Return the log variance that the raw second output means: smooth, and bounded."""
    return LOG_VARIANCE_BOUND * torch.tanh(raw / LOG_VARIANCE_BOUND)
