"""What a trained network is worth on later data: calibrated, scored, beside the trivial answer."""

import math

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.answers import Answers
from training.calibration import Calibration
from training.networks.tasks import Binary, MultiClass, Task
from training.scores import accuracy, auc, average_precision, losses

Floats = NDArray[np.float64]


def calibrated(begun: Calibration, outputs: Floats, targets: Floats) -> Calibration:
    """Return ``begun`` fitted to the validation slice: outputs (n, O), targets (n,).

    Raises:
        TrainingError: the training diverged.
    """
    if not np.isfinite(outputs).all():
        raise TrainingError(
            "training diverged: the network answers with values that are not numbers; lower "
            "learning_rate of the model"
        )
    return begun.refit(outputs, targets)


def figures(task: Task, answers: Answers, targets: Floats, trained_on: Floats) -> dict[str, float]:
    """Return the figures of answers to later examples with ``targets`` (n,).

    ``log_loss`` is the mean negative log likelihood of every task, in nats, and
    ``base_rate_log_loss`` that of the trivial answer (:func:`trivial`): a model must be below it.
    What can't be told, like the ranking of a single class, is left out.

    Args:
        task: what is answered.
        answers: n of them.
        targets: (n,).
        trained_on: (m,) targets of the training slice.
    """
    found = {name: float(each.mean()) for name, each in losses(task, answers, targets).items()}
    base = losses(task, trivial(task, trained_on, len(targets)), targets)
    found["base_rate_log_loss"] = float(base["log_loss"].mean())
    match task:
        case Binary():
            found["accuracy"] = accuracy(answers.score, targets)
            found["auc"] = auc(answers.score, targets)
            found["average_precision"] = average_precision(answers.score, targets)
        case MultiClass():
            if answers.probabilities is not None:
                hits = answers.probabilities.argmax(axis=1) == targets
                found["accuracy"] = float(hits.mean())
        case _:
            errors = answers.score - targets
            found["rmse"] = float(np.sqrt((errors**2).mean()))
            found["mae"] = float(np.abs(errors).mean())
    told = ("auc", "average_precision")
    return {name: value for name, value in found.items() if name not in told or _known(value)}


def trivial(task: Task, trained_on: Floats, rows: int) -> Answers:
    """Return what answers ``rows`` examples without looking at them.

    The share of positives; the share of each class, each counted once more than it came, so that a
    class that is new has a chance; the normal distribution of the targets.
    """
    match task:
        case Binary():
            return Answers(np.full(rows, trained_on.mean()))
        case MultiClass(classes=classes):
            counts = np.bincount(trained_on.astype(np.int64), minlength=len(classes)) + 1.0
            return Answers.of_classes(np.tile(counts / counts.sum(), (rows, 1)))
        case _:
            spread = float(trained_on.std()) or 1.0
            mean = np.full(rows, trained_on.mean())
            return Answers(mean, spread=np.full(rows, spread))


def _known(value: float) -> bool:
    return not math.isnan(value)
