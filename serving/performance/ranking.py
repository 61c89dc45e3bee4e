"""How well scores rank: area under the ROC curve and average precision, from histograms.

Scores are counted in :data:`BINS` fixed bins per label, so histograms of any stretches add up.
Within a bin all scores are taken for equal. How far that can be off is known from the histogram
itself: see :func:`auc_error` and :func:`average_precision_bounds`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from serving.performance.intervals import Z95, Bounds, of_share

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _edges() -> Floats:
    """Half of the bins are equally wide in the probability, half in its logit: where scores lie
    close to 0 or 1, as of rare events, they differ by factors."""
    even = np.arange(1, 257) / 257
    logits = np.linspace(-16.0, 16.0, 255)
    return np.unique(np.concatenate([even, 1 / (1 + np.exp(-logits))]))


EDGES = _edges()
BINS = len(EDGES) + 1
"""512: bin k holds the scores in [EDGES[k-1], EDGES[k])."""


def places(scores: Floats, labels: Mask) -> Ints:
    """Return the cell of each (score, label), (n,): the bin for label 0, BINS + bin for label 1."""
    found: Ints = np.searchsorted(EDGES, scores, side="right").astype(np.int64)
    return found + BINS * labels


def histogram(scores: Floats, labels: Mask) -> Ints:
    """Return the counts per cell, shape (2·BINS,)."""
    return np.bincount(places(scores, labels), minlength=2 * BINS).astype(np.int64)


def auc(counts: Ints) -> Bounds:
    """Return the area under the ROC curve, a tie counting half, with the interval of DeLong,
    DeLong and Clarke-Pearson (1988) on the scale of logits; NaN where a label is missing.

    Rows are taken for independent. Where all pairs are in order, and no variance is left, the
    interval is Wilson's for a share among as many rows as the rarer label has.
    """
    zeros, ones = _split(counts)
    n0, n1 = float(zeros.sum()), float(ones.sum())
    if not n0 or not n1:
        return Bounds(math.nan)
    below = (np.cumsum(zeros) - zeros / 2) / n0  # of each 1: the share of the 0 that it beats
    above = (n1 - np.cumsum(ones) + ones / 2) / n1  # of each 0: the share of the 1 that beat it
    value = float(ones @ below) / n1
    spread1 = float(ones @ (below - value) ** 2) / max(1.0, n1 - 1)
    spread0 = float(zeros @ (above - value) ** 2) / max(1.0, n0 - 1)
    variance = spread1 / n1 + spread0 / n0
    if min(n0, n1) < 2 or variance <= 0 or not 0 < value < 1:
        rarer = min(n0, n1)
        found = of_share(value * rarer, rarer)
        return Bounds(value, found.low, found.high)
    return _on_logits(value, math.sqrt(variance) / (value * (1 - value)))


def auc_error(counts: Ints) -> float:
    """Return by how much the area may be off at most, for scores of one bin are not told apart:
    half of the share of the pairs that lie in one bin."""
    zeros, ones = _split(counts)
    pairs = float(zeros.sum()) * float(ones.sum())
    return float(zeros @ ones) / pairs / 2 if pairs else math.nan


def average_precision(counts: Ints) -> Bounds:
    """Return Σ (Rₖ − Rₖ₋₁) Pₖ over the bins from the highest down, precision P and recall R of what
    scores that much or more; NaN without a 1.

    The interval is the logit one of Boyd, Eng and Page (2013), of as many rows as there are 1.
    """
    zeros, ones = _split(counts[::-1])[::-1]
    positives = float(ones.sum())
    if not positives:
        return Bounds(math.nan)
    found = np.cumsum(ones)
    told = found + np.cumsum(zeros)
    filled = told > 0
    value = float(np.sum(ones[filled] * (found[filled] / told[filled]))) / positives
    if not 0 < value < 1:
        bounds = of_share(value * positives, positives)
        return Bounds(value, bounds.low, bounds.high)
    return _on_logits(value, 1 / math.sqrt(positives * value * (1 - value)))


def average_precision_bounds(counts: Ints) -> tuple[float, float]:
    """Return between which values the average precision of the scores themselves lies.

    At worst all 0 of a bin come before its 1; at best they come behind, and its 1 are tied.
    """
    zeros, ones = _split(counts[::-1])[::-1]
    positives = float(ones.sum())
    if not positives:
        return math.nan, math.nan
    hits, misses = np.cumsum(ones), np.cumsum(zeros)
    filled = ones > 0
    a, t, f, b = ones[filled], hits[filled], misses[filled], zeros[filled]
    low = float(np.sum(a * (t - a + 1) / (t - a + 1 + f)))
    high = float(np.sum(a * t / (t + f - b)))
    return low / positives, high / positives


def _split(counts: Ints) -> tuple[Floats, Floats]:
    numbers = counts.astype(np.float64)
    return numbers[:BINS], numbers[BINS:]


def _on_logits(value: float, error: float) -> Bounds:
    logit = math.log(value / (1 - value))
    return Bounds(value, _expit(logit - Z95 * error), _expit(logit + Z95 * error))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
