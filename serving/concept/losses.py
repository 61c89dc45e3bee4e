"""The loss of each matched answer."""

import numpy as np

from serving.concept.detector import Floats
from serving.monitoring.told import answers_of
from serving.performance.figures import FARTHEST
from training.networks.tasks import Binary, MultiClass, Task
from training.scores import log_losses, losses


def log_loss_of_each(task: Task, scores: Floats, labels: Floats) -> Floats:
    """Return the log loss (n,) of rows of :mod:`serving.monitoring.told`, in nats; that of a
    normal density in ± :data:`serving.performance.figures.FARTHEST`."""
    match task:
        case Binary():
            return log_losses(scores, labels)
        case MultiClass():
            return losses(task, answers_of(task, scores), labels)["log_loss"]
        case _:
            found = losses(task, answers_of(task, scores), labels)["log_loss"]
            return np.clip(found, -FARTHEST, FARTHEST)
