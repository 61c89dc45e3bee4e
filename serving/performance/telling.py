"""All figures of a slice with their intervals, from its sums step by step. Pure.

A figure's rows are taken for independent or, where there are enough steps, as dependent as the
steps' own figures show (:mod:`serving.performance.intervals`); areas and calibration errors are
told of independent rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.performance import ranking
from serving.performance.figures import UNIT, WIDTH, Figures, figures, names
from serving.performance.intervals import (
    Z95,
    Bounds,
    Error,
    error_of_steps,
    inflation_of,
    of_mean,
    of_share,
    of_size,
)
from serving.performance.sums import CALIBRATION_BINS, PLAIN, RANKED
from streams.wire import Metric, Window
from training.networks.tasks import Regression, Task

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LABEL, _HIT, _SCORE, _LOSS, _ERROR = 1, 2, 3, 4, 6  # columns of the moments


@dataclass(frozen=True)
class Told:
    """``figures`` as of :mod:`serving.performance.figures`; ``bounds`` of each figure by name;
    the ``loss_error`` of the mean log loss, and the ``gap_error`` of mean score − mean label where
    the model is calibrated."""

    figures: Figures
    bounds: dict[str, Bounds]
    loss_error: Error
    gap_error: Error


def told(steps: Ints, task: Task) -> Told | None:
    """Return the figures of the sum of ``steps``, vectors of :mod:`serving.performance.sums` of
    shape (m, K), by the names of the task; None where there is no pair."""
    total = steps.sum(axis=0)
    found = figures(total[:WIDTH]) if len(steps) else None
    if found is None:
        return None
    counts = steps[:, 0]
    loss_error = Error(found.log_loss_error).larger(_of_steps(steps, _LOSS))
    brier_error = Error(found.brier_error).larger(_of_steps(steps, _ERROR))
    residuals = steps[:, _SCORE] / UNIT - steps[:, _LABEL]
    of_gaps = error_of_steps(residuals, counts)
    gap_error = Error(found.calibration_error).larger(of_gaps)
    signed = found.mean_score - found.mean_label
    inflation = inflation_of(steps[:, _HIT], counts)
    by_attribute = {
        "log_loss": of_mean(found.log_loss, loss_error),
        "brier": of_mean(found.brier, brier_error),
        "accuracy": of_share(int(total[_HIT]), found.n, inflation),
        "calibration_gap": of_size(signed, gap_error),
    }
    bounds = {name: by_attribute[attribute] for attribute, name in names(task).items()}
    bounds["expected_calibration_error"] = calibration_error(total, task)
    if len(total) >= RANKED:
        bounds["auc"] = ranking.auc(total[PLAIN:RANKED])
        bounds["average_precision"] = ranking.average_precision(total[PLAIN:RANKED])
    return Told(found, {n: b for n, b in bounds.items() if b.whole}, loss_error, gap_error)


def metrics_of(
    found: Told,
    version: int,
    group: str | None,
    window: Window,
    by: Literal["event", "label"],
    restated: int = 0,
) -> list[Metric]:
    """Return the figures of a slice as records."""
    return [
        Metric(
            name, None, bounds.value, None, found.figures.n, window, version, group=group,
            low=bounds.low, high=bounds.high, by=by, restated=restated,
        )
        for name, bounds in found.bounds.items()
    ]  # fmt: skip


def calibration_error(total: Ints, task: Task) -> Bounds:
    """Return the expected calibration error: Σ nᵦ/n · |mean score − mean label| over the bins.

    Naeini, Cooper and Hauskrecht (2015); of several classes that of the most probable one (Guo et
    al. 2017); of a regression the mean distance, over the tenths, between how often what turned out
    lies below a quantile that was told, and how often it should (Kuleshov et al. 2018).

    Chance alone makes it larger than 0: the lower bound leaves out what a calibrated model of this
    size has on average, Σ nᵦ/n · σᵦ·√(2/π), so it is 0 for such a one. That of a regression is by
    the Dvoretzky-Kiefer-Wolfowitz inequality, and wide.
    """
    bins = total[WIDTH:PLAIN].reshape(3, CALIBRATION_BINS)
    counts = bins[0].astype(np.float64)
    n = float(counts.sum())
    if isinstance(task, Regression):
        expected = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
        value = float(np.abs(np.cumsum(counts)[:-1] / n - expected).mean())
        most = math.sqrt(math.log(2 / 0.05) / (2 * n))
        return Bounds(value, max(0.0, value - most), value + most)
    filled = counts > 0
    counts = counts[filled]
    shares = bins[2][filled] / counts
    distance = np.abs(bins[1][filled] / UNIT / counts - shares)
    weights = counts / n
    value = float(weights @ distance)
    # One more of each label, so that a bin of few rows that agree is not taken for certain.
    share = (bins[2][filled] + 1) / (counts + 2)
    error = np.sqrt(share * (1 - share) / counts)
    chance = float(weights @ error) * math.sqrt(2 / math.pi)
    half = Z95 * math.sqrt(float(weights**2 @ error**2))
    return Bounds(value, max(0.0, value - chance - half), value + half)


def _of_steps(steps: Ints, column: int) -> Error:
    return error_of_steps(steps[:, column] / UNIT, steps[:, 0])
