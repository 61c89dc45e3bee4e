"""What was answered, as numbers that can be kept until the label comes: a row per prediction.

A row is what the task's scores need: the probability of label 1; the probability of each class; a
mean and a spread. It is NaN where a prediction is of another task, or has no spread, as the stated
prior of a regression.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task

Floats = NDArray[np.float64]


class Told(msgspec.Struct, gc=False):
    """What is needed of a :class:`streams.wire.Prediction`."""

    event_id: str
    score: float
    model_version: int
    event_time_ms: int
    probabilities: dict[str, float] | None = None
    spread: float | None = None


def width(task: Task) -> int:
    """Return how many numbers a row has."""
    match task:
        case Binary():
            return 1
        case MultiClass(classes=classes):
            return len(classes)
        case _:
            return 2


def rows_of(task: Task, told: Sequence[Told]) -> Floats:
    """Return a row per prediction, (n, width); (n,) where the width is 1."""
    match task:
        case Binary():
            return np.array([each.score for each in told], np.float64)
        case MultiClass(classes=classes):
            names, nothing = list(map(str, classes)), dict[str, float]()
            given = [each.probabilities or nothing for each in told]
            rows = [[each.get(name, np.nan) for name in names] for each in given]
            return np.array(rows, np.float64).reshape(len(told), len(names))
        case _:
            rows = [[each.score, np.nan if each.spread is None else each.spread] for each in told]
            return np.array(rows, np.float64).reshape(len(told), 2)


def answers_of(task: Task, rows: Floats) -> Answers:
    """Return the answers that :func:`rows_of` told."""
    match task:
        case Binary():
            return Answers(rows)
        case MultiClass():
            return Answers.of_classes(rows)
        case _:
            return Answers(rows[:, 0], spread=rows[:, 1])


def can_be_scored(rows: Floats) -> NDArray[np.bool_]:
    """Return which rows (n,) are whole."""
    finite = np.isfinite(rows)
    return finite if finite.ndim == 1 else np.logical_and.reduce(finite, axis=1)
