"""Sums over cells of the score: what the label-free estimate and calibration are made of. Pure.

The cells are :mod:`training.score_reference`'s, which depend on no model. All sums are integers, of
fixed point, so that no order matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.cells import add_up, cells_of
from serving.monitoring.windows import StepSums, step_starts
from training.networks.tasks import Binary, MultiClass, Task
from training.score_reference import CELLS, cells
from training.scores import FLOOR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNIT = 2**24


def can_be_estimated(task: Task) -> bool:
    """Return whether the task's answers are probabilities."""
    return isinstance(task, Binary | MultiClass)


def top_scores(task: Task, scores: Floats) -> Floats:
    """Return the probability (n,) of label 1, or of the most probable class."""
    if isinstance(task, Binary):
        return scores
    top: Floats = scores.max(axis=1)
    return top


def hits(task: Task, scores: Floats, labels: Floats) -> Floats:
    """Return 1 where the label is 1, or the most probable class, else 0, (n,)."""
    if isinstance(task, Binary):
        wanted: Floats = (labels > 0.5).astype(np.float64)
        return wanted
    right: Floats = (scores.argmax(axis=1) == labels).astype(np.float64)
    return right


def expected_losses(task: Task, scores: Floats) -> tuple[Floats, Floats]:
    """Return (n,) twice: the log loss that an answer is to expect where it is right as it is, its
    entropy; and how much more it is per unit of probability that the label 1, or the most probable
    class, has more than its answer says, taken from all others in proportion."""
    top = np.clip(top_scores(task, scores), FLOOR, 1 - FLOOR)
    if isinstance(task, Binary):
        gain = -np.log(top) + np.log1p(-top)
        return -(top * np.log(top) + (1 - top) * np.log1p(-top)), gain
    every = np.clip(scores, FLOOR, 1.0)
    parts = scores * np.log(every)
    entropy = -parts.sum(axis=1)
    others = entropy + top * np.log(top)
    return entropy, -np.log(top) - others / (1 - top)


def add_by_cell(
    sums: StepSums, versions: Ints, times_ms: Ints, scores: Floats, columns: Floats
) -> None:
    """Add ``columns`` (n, k) and their number to the cell of each score (n,), by version and step:
    to vectors of CELLS · (1 + k) integers, cell after cell."""
    if not len(scores):
        return
    rows = np.column_stack(
        [np.ones(len(scores), np.int64), np.rint(columns * UNIT).astype(np.int64)]
    )
    starts = step_starts(times_ms, sums.step_ms)
    numbers, first = cells_of([versions, starts // sums.step_ms])
    totals = add_up(numbers * CELLS + cells(scores), len(first) * CELLS, rows)
    found = zip(versions[first].tolist(), starts[first].tolist(), strict=True)
    for (version, start), total in zip(found, totals.reshape(len(first), -1), strict=True):
        sums.add_total(f"{version}", start, total)


def by_cell(total: Ints, columns: int) -> tuple[Floats, Floats]:
    """Return the numbers (CELLS,) and the sums (CELLS, columns) of what was added."""
    table = total.reshape(CELLS, 1 + columns)
    return table[:, 0].astype(np.float64), table[:, 1:] / UNIT


def groups_of(counts: Floats, groups: int) -> Ints:
    """Return a group per cell, (CELLS,): neighbouring cells, about the same share of ``counts`` in
    each, as many as ``groups`` or fewer."""
    below = np.cumsum(counts) - counts / 2
    found: Ints = np.minimum(groups - 1, below * groups // max(counts.sum(), 1)).astype(np.int64)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)
