"""How well a model answers: proper scores, hits, calibration, with standard errors.

What these are depends on the task:

==============  ========================  =======================  =============================
..              of two classes            of several               of a regression
==============  ========================  =======================  =============================
log loss        −ln of the probability    the same                 −ln of the normal density,
                that was given to what                             in ± 50 nats
                happened
error           (probability − label)²    summed over the classes  squared error in units of the
                                                                   spread², at most 50: a true
                                                                   spread has 1
hit             the side of 0.5           most probable class      within the interval of 90 %
calibration     mean score and label      mean probability of the  a half, and the share above
                                          most probable, and hits  the mean
==============  ========================  =======================  =============================

Each matched (score, label) becomes a row of integers in fixed point, so that sums over any subset
are exact and independent of their order; figures are computed from such sums alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.told import answers_of
from training.networks.tasks import Binary, MultiClass, Task
from training.scores import log_losses, losses, normal_log_scores

FARTHEST = 50.0  # nats, and squared spreads: one wild answer must not drown all others
WITHIN_90 = 1.6448536269514722  # spreads from the mean that hold 90 % of a normal distribution
# At worst 2⁶³ / (2²⁸ · ln²(10⁷)) = 10⁸ certain mistakes fit into a sum, 10⁷ far numbers: a
# probability is cut to [10⁻⁷, 1 − 10⁻⁷].
UNIT = 2**28
_BINARY = Binary()

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WIDTH = 9


def contributions(scores: Floats, labels: Floats, task: Task = _BINARY) -> Ints:
    """Return one row of :data:`WIDTH` integers per matched pair, shape (n, WIDTH).

    ``scores`` are rows as of :mod:`serving.monitoring.told`, ``labels`` (n,) targets of the task.
    Columns: 1, label, hit; then in units of 2⁻²⁸: score, log loss, its square, error, its square,
    variance p(1 − p) of the label if the score is right.
    """
    match task:
        case Binary():
            return _rows(
                scores, labels > 0.5, (scores >= 0.5) == (labels > 0.5),
                log_losses(scores, labels), (scores - labels) ** 2,
            )  # fmt: skip
        case MultiClass():
            found = losses(task, answers_of(task, scores), labels)
            hits = scores.argmax(axis=1) == labels
            return _rows(scores.max(axis=1), hits, hits, found["log_loss"], found["brier"])
        case _:
            mean, spread = scores.T
            far = np.abs((labels - mean) / spread)
            loss = np.clip(normal_log_scores(mean, spread, labels), -FARTHEST, FARTHEST)
            halves = np.full(len(labels), 0.5)
            error = np.minimum(far**2, FARTHEST)
            return _rows(halves, labels > mean, far <= WITHIN_90, loss, error)


def _rows(scores: Floats, labels: Mask, hits: Mask, loss: Floats, error: Floats) -> Ints:
    rows = np.empty((len(scores), WIDTH), dtype=np.int64)
    rows[:, 0] = 1
    rows[:, 1], rows[:, 2] = labels, hits
    real = np.stack([scores, loss, loss**2, error, error**2, scores * (1 - scores)], axis=1)
    rows[:, 3:] = np.rint(real * UNIT)
    return rows


def names(task: Task) -> dict[str, str]:
    """Return what a task's figures are called: attribute of :class:`Figures` → name."""
    if isinstance(task, Binary | MultiClass):
        kept = ("log_loss", "brier", "accuracy", "calibration_gap")
        return {name: name for name in kept}
    return {
        "log_loss": "log_loss",
        "brier": "squared_error_in_spreads",
        "accuracy": "within_90",
        "calibration_gap": "calibration_gap",
    }


PERFORMANCE_METRICS = (
    "log_loss",
    "brier",
    "squared_error_in_spreads",
    "accuracy",
    "within_90",
    "auc",
    "average_precision",
    "calibration_gap",
    "expected_calibration_error",
)
"""What the figures of performance are called in the metrics topic, of whichever task."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The scores of ``n`` pairs; ``*_error`` are standard errors. The names are those of a binary
    task; see the module for others.

    ``calibration_gap`` is |mean score − mean label|; its error is that of a calibrated model.
    """

    n: int
    log_loss: float
    log_loss_error: float
    brier: float
    brier_error: float
    accuracy: float
    accuracy_error: float
    mean_score: float
    mean_label: float
    calibration_gap: float
    calibration_error: float


def figures(total: Ints) -> Figures | None:
    """Return the figures of a sum of :func:`contributions`, shape (WIDTH,); None where n is 0."""
    n = int(total[0])
    if not n:
        return None
    label, accuracy = int(total[1]) / n, int(total[2]) / n
    score, loss, loss2, error, error2, variance = (int(v) / UNIT / n for v in total[3:])
    return Figures(
        n=n,
        log_loss=loss,
        log_loss_error=_standard_error(loss, loss2, n),
        brier=error,
        brier_error=_standard_error(error, error2, n),
        accuracy=accuracy,
        accuracy_error=_standard_error(accuracy, accuracy, n),
        mean_score=score,
        mean_label=label,
        calibration_gap=abs(score - label),
        calibration_error=float(np.sqrt(variance / n)),
    )


def _standard_error(mean: float, mean_of_squares: float, n: int) -> float:
    """Return the standard error of a mean from the first two moments (unbiased variance)."""
    if n < 2:
        return float("inf")
    return float(np.sqrt(max(0.0, mean_of_squares - mean**2) / (n - 1)))
