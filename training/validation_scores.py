"""What the model's own answers on the validation rows come to, cell by cell. numpy only."""

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task
from training.score_reference import CELLS, cells, score_counts

Floats = NDArray[np.float64]


def validation_scores(task: Task, answers: Answers) -> dict[str, NDArray[np.int64]]:
    """Return the counts of :func:`training.score_reference.score_counts`, of calibrated answers."""
    rows = answers.score if answers.probabilities is None else answers.probabilities
    return score_counts(task, rows)


def calibration_sums(task: Task, answers: Answers, targets: Floats) -> Floats | None:
    """Return (CELLS, 3): per score cell, n, the sum of the scores, and how many were right.

    The score is the probability of label 1, and right is label 1; of several classes it is the
    highest probability, and right is that this class it was. None for a regression.
    """
    match task:
        case Binary():
            hits = targets
        case MultiClass() if answers.probabilities is not None:
            hits = (answers.probabilities.argmax(axis=1) == targets).astype(np.float64)
        case _:
            return None
    at = cells(answers.score)
    sums = (np.bincount(at, weights, CELLS) for weights in (None, answers.score, hits))
    return np.stack([column.astype(np.float64) for column in sums], axis=1)
