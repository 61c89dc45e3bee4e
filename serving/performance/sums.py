"""Matched pairs as sums of integers: what the figures are made from, per slice and step.

A vector of sums holds, one after the other:

- :data:`serving.performance.figures.WIDTH` moments of all pairs;
- of :data:`CALIBRATION_BINS` equal bins of the score: pairs, Σ score, Σ label (the most probable
  class and whether it was right; of a regression the bins are of the share of the told distribution
  that lies below what turned out, and only the pairs matter);
- where scores are ranked, the histogram of :mod:`serving.performance.ranking`.

All are exact, so they add up over steps, slices and partitions in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from serving.monitoring.cells import add_up
from serving.performance import ranking
from serving.performance.figures import WIDTH, contributions
from training.networks.tasks import Binary, Regression, Task

CALIBRATION_BINS = 10
PLAIN = WIDTH + 3 * CALIBRATION_BINS
RANKED = PLAIN + 2 * ranking.BINS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """n pairs made ready: ``moments`` (n, WIDTH), the ``calibration`` bin (n,), and the cell of the
    histogram (n,), None where the task ranks nothing."""

    moments: Ints
    calibration: Ints
    ranks: Ints | None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.moments)


def scored(scores: Floats, labels: Floats, task: Task) -> Scored:
    """Return pairs as of :class:`serving.monitoring.matching.Matches`, all of which can be scored,
    ready to be added up."""
    moments = contributions(scores, labels, task)
    if isinstance(task, Regression):
        mean, spread = scores.T
        place = ndtr((labels - mean) / spread)
    else:
        place = scores if isinstance(task, Binary) else scores.max(axis=1)
    bins = np.clip((place * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    ranks = ranking.places(scores, labels > 0.5) if isinstance(task, Binary) else None
    return Scored(moments, bins, ranks)


def totals_of(pairs: Scored, cells: Ints, count: int, ranked: bool) -> Ints:
    """Return the vector of sums of each cell, shape (count, PLAIN), or (count, RANKED)."""
    ranks = pairs.ranks if ranked else None
    vectors = np.zeros((count, PLAIN if ranks is None else RANKED), np.int64)
    vectors[:, :WIDTH] = add_up(cells, count, pairs.moments)
    fine = cells * CALIBRATION_BINS + pairs.calibration
    size = count * CALIBRATION_BINS
    kept = add_up(fine, size, pairs.moments[:, [0, 3, 1]])  # pairs, score, label
    vectors[:, WIDTH:PLAIN] = (
        kept.reshape(count, CALIBRATION_BINS, 3).swapaxes(1, 2).reshape(count, 3 * CALIBRATION_BINS)
    )
    if ranks is not None:
        width = 2 * ranking.BINS
        found = np.bincount(cells * width + ranks, minlength=count * width)
        vectors[:, PLAIN:] = found.reshape(count, width)
    return vectors
