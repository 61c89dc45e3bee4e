"""Scores on a fixed grid: what a model's answers look like, as counts that add up. numpy only.

The monitor counts answers before it knows what those of their version should look like, so the
cells depend on no model. A probability's cell is that of its logit, in steps of 0.1 between
±``FARTHEST``, with one more cell beyond each end: quantiles read off such counts are right to a
tenth of a logit wherever the scores lie.
"""

import numpy as np
from numpy.typing import NDArray

from training.networks.tasks import Binary, MultiClass, Task

FARTHEST = 10.0
STEPS_PER_LOGIT = 10
BINS = 10
CELLS = int(2 * FARTHEST * STEPS_PER_LOGIT) + 2

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def score_cells(task: Task, rows: Floats) -> dict[str, Counts]:
    """Return name → cell of each answer, (n,), of whole ``rows`` as :mod:`serving.monitoring.told`
    has them: (n,) probabilities of label 1, or (n, classes).

    ``"score"`` is the probability of label 1 or of the most probable class, ``"class"`` the most
    probable class. A regression's answers have no natural unit, and give none.
    """
    match task:
        case Binary():
            return {"score": cells(rows)}
        case MultiClass():
            top = rows.argmax(axis=1).astype(np.int64)
            return {"score": cells(rows.max(axis=1)), "class": top}
        case _:
            return {}


def score_widths(task: Task) -> dict[str, int]:
    """Return name → how many cells there are, for what :func:`score_cells` gives."""
    match task:
        case Binary():
            return {"score": CELLS}
        case MultiClass(classes=classes):
            return {"score": CELLS, "class": len(classes)}
        case _:
            return {}


def score_counts(task: Task, rows: Floats) -> dict[str, Counts]:
    """Return name → how many answers fell into each cell: what a reference keeps of validation."""
    widths = score_widths(task)
    found = score_cells(task, rows)
    return {name: np.bincount(each, minlength=widths[name]) for name, each in found.items()}


def cells(probabilities: Floats) -> Counts:
    """Return the cell of each probability, 0 to ``CELLS - 1``; they rise with it."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) - np.log1p(-probabilities)
    at = np.floor((np.clip(logits, -2 * FARTHEST, 2 * FARTHEST) + FARTHEST) * STEPS_PER_LOGIT)
    found: Counts = np.clip(at + 1, 0, CELLS - 1).astype(np.int64)
    return found


def lower_bound(cell: int) -> float:
    """Return the probability from which on a score is in ``cell`` or above.

    >>> round(lower_bound(101), 3)
    0.5
    """
    if cell <= 0:
        return 0.0
    return float(1 / (1 + np.exp(FARTHEST - (cell - 1) / STEPS_PER_LOGIT)))


def tenths(counts: Counts) -> Counts:
    """Return the cells with which each bin begins, ascending, the first 0, of ``counts`` (C,).

    About ten bins are about equally full; a cell that holds more than half has one of its own, so
    that leaving it is seen on both sides.

    >>> tenths(np.full(100, 3)).tolist()
    [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    """
    total = int(counts.sum())
    below = np.cumsum(counts) - counts
    inner = np.searchsorted(below, total * np.arange(1, BINS) / BINS, side="left")
    full = np.flatnonzero(2 * counts > total)
    starts = np.unique([0, *(inner if total else ()), *full, *(full + 1)]).astype(np.int64)
    return starts[starts < len(counts)]
