"""How well a model answers: log loss, Brier score, accuracy, calibration, with standard errors.

Each matched (score, label) becomes a row of integers in fixed point, so that sums over any subset
are exact and independent of their order; figures are computed from such sums alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

CLIP = (
    1e-7  # scores are cut to [CLIP, 1 − CLIP]: one certain mistake must not make the loss infinite
)
ALPHA = 0.001
_UNIT = 2**28  # at worst 2⁶³ / (2²⁸ · ln²(1/CLIP)) = 10⁸ certain mistakes fit into a sum

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WIDTH = 9


def contributions(scores: Floats, labels: Floats) -> Ints:
    """Return one row of :data:`WIDTH` integers per matched pair, shape (n, WIDTH).

    Columns: 1, label, hit at 0.5; then in units of 2⁻²⁸: score, log loss, its square, squared
    error, its square, variance p(1 − p) of the label if the score is right.
    """
    p = np.clip(scores, CLIP, 1 - CLIP)
    loss = -np.where(labels > 0.5, np.log(p), np.log1p(-p))
    error = (scores - labels) ** 2
    rows = np.empty((len(scores), WIDTH), dtype=np.int64)
    rows[:, 0] = 1
    rows[:, 1] = labels > 0.5
    rows[:, 2] = (scores >= 0.5) == (labels > 0.5)
    real = np.stack([scores, loss, loss**2, error, error**2, scores * (1 - scores)], axis=1)
    rows[:, 3:] = np.rint(real * _UNIT)
    return rows


@dataclass(frozen=True, slots=True)
class Figures:
    """The scores of ``n`` pairs; ``*_error`` are standard errors.

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
    score, loss, loss2, error, error2, variance = (int(v) / _UNIT / n for v in total[3:])
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure against its threshold and against what chance gives."""

    metric: str
    value: float
    threshold: float
    critical: float

    @property
    def alarming(self) -> bool:
        """Whether the figure is both past the threshold and beyond chance."""
        return self.value >= self.threshold and self.value > self.critical


def judge_log_loss(
    found: Figures, validation: float, ratio: float, alpha: float = ALPHA
) -> Verdict:
    """Compare log loss with the model's own validation log loss times ``ratio``.

    Chance: a model as good as in validation exceeds ``critical`` with probability ``alpha``.
    """
    z = float(norm.ppf(1 - alpha))
    critical = validation + z * found.log_loss_error
    return Verdict("log_loss", found.log_loss, validation * ratio, critical)


def judge_calibration(found: Figures, gap: float, alpha: float = ALPHA) -> Verdict:
    """Compare |mean score − mean label| with ``gap``; chance is that of a calibrated model."""
    z = float(norm.ppf(1 - alpha / 2))
    return Verdict("calibration_gap", found.calibration_gap, gap, z * found.calibration_error)


def _standard_error(mean: float, mean_of_squares: float, n: int) -> float:
    """Return the standard error of a mean from the first two moments (unbiased variance)."""
    if n < 2:
        return float("inf")
    return float(np.sqrt(max(0.0, mean_of_squares - mean**2) / (n - 1)))
