"""What the model's own answers on the validation rows come to, cell by cell. numpy only."""

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.dispersion import Blocks, Dispersion
from training.networks.tasks import Binary, MultiClass, Task
from training.score_reference import CELLS, cells, score_cells, score_counts, score_widths, tenths

Floats = NDArray[np.float64]


def validation_scores(task: Task, answers: Answers) -> dict[str, NDArray[np.int64]]:
    """Return the counts of :func:`training.score_reference.score_counts`, of calibrated answers."""
    return score_counts(task, _rows(answers))


def score_dispersions(
    task: Task, answers: Answers, times_ms: NDArray[np.int64]
) -> dict[str, Dispersion]:
    """Return how the scores of the validation rows, at these event times (n,), move by themselves:
    by name, as :func:`validation_scores`; those of which nothing can be told are left out."""
    bins = score_cells(task, _rows(answers))
    widths = score_widths(task)
    if not bins or not len(times_ms):
        return {}
    starts = tenths(np.bincount(bins["score"], minlength=widths["score"]))
    bins["score"] = np.searchsorted(starts, bins["score"], side="right") - 1
    blocks = Blocks(int(times_ms.min()), int(times_ms.max()))
    blocks.add(times_ms, bins, widths | {"score": len(starts)})
    return blocks.dispersions()


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


def _rows(answers: Answers) -> Floats:
    return answers.score if answers.probabilities is None else answers.probabilities
