"""Figures of one group from its sums: rates of decisions, and how far what is said is off. Pure.

Whom a decision "selects" depends on the task: of two classes a score from the declared decision
on; of several classes each class by itself, where it is the most probable one; a regression selects
nobody, and has the mean error in units of the told spread. All are sums of integers per step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.fairness.names import (
    CALIBRATION_GAP,
    FALSE_POSITIVE_RATE,
    MEAN_ERROR,
    SELECTION_RATE,
    TRUE_POSITIVE_RATE,
)
from serving.performance.figures import FARTHEST, UNIT
from serving.performance.intervals import (
    Bounds,
    Error,
    error_of_steps,
    inflation_of,
    of_mean,
    of_share,
    of_size,
)
from training.networks.tasks import Binary, MultiClass, Regression, Task

FEWEST = 30
"""A rate among fewer labels than this is not told: few positives make no true positive rate."""

WIDTH = 6  # per class: pairs, label, selected, both; in fixed point p and p(1 − p)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def contributions(scores: Floats, labels: Floats, task: Task, decision: float) -> Ints:
    """Return a row of integers per pair, shape (n, classes · WIDTH); (n, 3) of a regression."""
    if isinstance(task, Regression):
        far = np.sqrt(FARTHEST)
        error = np.clip((labels - scores[:, 0]) / scores[:, 1], -far, far)
        ones = np.ones(len(labels))
        return np.rint(np.stack([ones, error * UNIT, error**2 * UNIT], axis=1)).astype(np.int64)
    if isinstance(task, Binary):
        said, truth = scores[:, None], labels[:, None] > 0.5
        selected = said >= decision
    else:
        classes = np.arange(scores.shape[1])
        said, truth = scores, labels[:, None] == classes
        selected = scores.argmax(axis=1)[:, None] == classes
    rows = np.empty((*said.shape, WIDTH), np.int64)
    rows[:, :, 0] = 1
    rows[:, :, 1], rows[:, :, 2], rows[:, :, 3] = truth, selected, truth & selected
    rows[:, :, 4], rows[:, :, 5] = np.rint(said * UNIT), np.rint(said * (1 - said) * UNIT)
    return rows.reshape(len(labels), -1)


def classes_of(task: Task) -> tuple[str | None, ...]:
    """Return the names of the classes that are selected; (None,) where there is one question."""
    return tuple(map(str, task.classes)) if isinstance(task, MultiClass) else (None,)


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``n``, whose variance is ``inflation`` times that of independent rows."""

    hits: int
    n: int
    inflation: float

    @property
    def bounds(self) -> Bounds:
        """The share with its interval."""
        return of_share(self.hits, self.n, self.inflation)


@dataclass(frozen=True, slots=True)
class Mean:
    """A signed mean with its error; ``is_size``: its size is told."""

    value: float
    error: Error
    n: int
    is_size: bool

    @property
    def bounds(self) -> Bounds:
        """What is told, with its interval."""
        return (of_size if self.is_size else of_mean)(self.value, self.error)


def figures(steps: Ints, task: Task, number: int) -> dict[str, Share | Mean]:
    """Return the figures of a group by name, from its ``steps`` (m, K), for the class of this
    number; those among fewer than :data:`FEWEST` labels are left out."""
    if not len(steps):
        return {}
    if isinstance(task, Regression):
        found: dict[str, Share | Mean] = {MEAN_ERROR: _mean_error(steps)}
    else:
        columns = steps[:, number * WIDTH : (number + 1) * WIDTH].T
        n, true, selected, both = columns[:4]
        found = {
            SELECTION_RATE: _share(selected, n),
            TRUE_POSITIVE_RATE: _share(both, true),
            FALSE_POSITIVE_RATE: _share(selected - both, n - true),
            CALIBRATION_GAP: _gap(columns),
        }
    return {name: figure for name, figure in found.items() if figure.n >= FEWEST}


def _share(hits: Ints, counts: Ints) -> Share:
    return Share(int(hits.sum()), int(counts.sum()), inflation_of(hits, counts))


def _gap(columns: Ints) -> Mean:
    """Return mean score − mean label, with the larger of the errors of a calibrated model and of
    the steps."""
    n = int(columns[0].sum())
    residuals = columns[4] / UNIT - columns[1]
    calibrated = Error(math.sqrt(float(columns[5].sum()) / UNIT) / n if n else math.inf)
    value = float(residuals.sum()) / n if n else math.nan
    return Mean(value, calibrated.larger(error_of_steps(residuals, columns[0])), n, is_size=True)


def _mean_error(steps: Ints) -> Mean:
    n, total, squares = (int(v) for v in steps.sum(axis=0))
    mean, second = total / UNIT / n, squares / UNIT / n
    own = math.sqrt(max(0.0, second - mean**2) / (n - 1)) if n > 1 else math.inf
    error = Error(own).larger(error_of_steps(steps[:, 1] / UNIT, steps[:, 0]))
    return Mean(mean, error, n, is_size=False)
