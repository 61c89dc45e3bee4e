"""Version 0: the stated prior, which answers until a model does."""

from __future__ import annotations

import numpy as np

from serving.inference.answers import Asked, Predict
from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task

_BINARY = Binary()


def prior_model(prior: float, task: Task = _BINARY) -> Predict:
    """Return version 0: the same answer to every row.

    It is the probability ``prior``; of several classes that all are equally likely; of a regression
    the mean ``prior``, of which nobody can say how far off it is.
    """

    def predict(rows: Asked) -> Answers:
        if isinstance(task, MultiClass):
            count = len(task.classes)
            return Answers.of_classes(np.full((len(rows), count), 1 / count))
        return Answers(np.full(len(rows), prior))

    return predict
