"""The figures of a model card, with their intervals. Pure; numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.answers import Answers
from training.calibration import Calibration
from training.dataset.texts import CodedTexts
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.retraining.comparison import BLOCKS, MINIMUM, interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z95 = 1.959963984540054
BINS = 10
PARTS = 5
RESAMPLES = 400
FEWEST = 30
"""Fewer examples than this get no interval: a bootstrap of them says too little."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the bounds of a 95 % interval, None where there are too few examples."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """What was answered, and what came true: ``n`` examples, mean answer, share with bounds."""

    n: int
    answered: float
    observed: float
    low: float
    high: float

    @property
    def is_off(self) -> bool:
        """Whether what was answered lies outside what was observed."""
        return not self.low <= self.answered <= self.high


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), good for small n and shares near 0.

    >>> [round(bound, 3) for bound in wilson(0, 10)]
    [0.0, 0.278]
    """
    share, z2 = hits / n, Z95**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if hits == 0 else center - half
    high = 1.0 if hits == n else center + half
    return low, high


def mean_of(losses: Floats, seed: int = 0) -> Estimate:
    """Return the mean of (n,) losses in order of time, with an interval.

    From the means of consecutive blocks (:func:`training.retraining.comparison.interval`), since
    neighbours depend on each other; of fewer examples than it needs by the percentile bootstrap.
    """
    n, mean = len(losses), float(losses.mean())
    if n >= MINIMUM:
        found = interval(losses, BLOCKS)
        return Estimate(mean, found.low, found.high)
    if n < FEWEST:
        return Estimate(mean, None, None)
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    low, high = np.quantile(losses[draws].mean(axis=1), [0.025, 0.975])
    return Estimate(mean, float(low), float(high))


def held_out(calibration: Calibration, outputs: Floats, targets: Floats) -> Answers:
    """Return answers to (n, O) outputs, each half calibrated on the other, in order of time.

    The model's own calibration is fitted to all of them, so on them it would look too good.
    """
    middle = len(targets) // 2
    first, second = slice(0, middle), slice(middle, None)
    halves = [
        calibration.refit(outputs[fitted], targets[fitted]).answers(outputs[judged])
        for fitted, judged in ((second, first), (first, second))
    ]
    return joined(halves)


def joined(parts: Sequence[Answers]) -> Answers:
    """Return answers one after another."""
    score = np.concatenate([part.score for part in parts])
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    spread = [part.spread for part in parts if part.spread is not None]
    return Answers(
        score,
        np.concatenate(probabilities) if probabilities else None,
        np.concatenate(spread) if spread else None,
    )


def calibration_bins(task: Task, answers: Answers, targets: Floats) -> list[CalibrationBin]:
    """Return what was answered beside what came true.

    Of a probability of label 1: bins of equally many examples. Of classes: the same for the most
    probable class, and whether it came. Of a regression: the central intervals that should hold
    10 %, 20 %, … 90 % of the targets, and what share they hold.
    """
    match task:
        case Binary():
            return _bins(answers.score, targets)
        case MultiClass():
            if answers.probabilities is None:
                return []
            came = answers.probabilities.argmax(axis=1) == targets
            return _bins(answers.score, came.astype(np.float64))
        case Regression():
            return [] if answers.spread is None else _coverage(answers, targets)


def _bins(answered: Floats, came: Floats) -> list[CalibrationBin]:
    order = np.argsort(answered, kind="stable")
    edges = np.linspace(0, len(order), BINS + 1).astype(np.int64)
    # Equal answers stand in one bin: the edges move to where the answers change.
    ranked = answered[order]
    moved = [0, *(int(np.searchsorted(ranked, ranked[e], "left")) for e in edges[1:-1]), len(order)]
    found: list[CalibrationBin] = []
    for start, end in pairwise(moved):
        if end > start:
            rows = order[start:end]
            n, hits = end - start, float(came[rows].sum())
            bounds = wilson(hits, n)
            found.append(CalibrationBin(n, float(answered[rows].mean()), hits / n, *bounds))
    return found


def _coverage(answers: Answers, targets: Floats) -> list[CalibrationBin]:
    from scipy.special import ndtr

    spread = np.ones(len(targets)) if answers.spread is None else answers.spread
    n = len(targets)
    place = ndtr((targets - answers.score) / spread)  # uniform where the answers are right
    found: list[CalibrationBin] = []
    for nominal in np.arange(1, 10) / 10:
        hits = float((np.abs(place - 0.5) <= nominal / 2).sum())
        found.append(CalibrationBin(n, float(nominal), hits / n, *wilson(hits, n)))
    return found


def time_parts(event_times_ms: Ints, parts: int = PARTS) -> list[Ints]:
    """Return the rows of consecutive parts of equally many examples; fewer of few examples."""
    return [rows for rows in np.array_split(np.arange(len(event_times_ms)), parts) if len(rows)]


def rows_by_text(texts: Sequence[str]) -> dict[str, Ints]:
    """Return text → its rows, ascending; the texts in alphabetical order."""
    if isinstance(texts, CodedTexts):
        codes, vocabulary = texts.codes.astype(np.int64), texts.vocabulary
    else:
        names, codes = np.unique(np.array(texts, dtype=object).astype(str), return_inverse=True)
        vocabulary = tuple(names.tolist())
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(vocabulary) + 1))
    pieces = ((text, order[starts[i] : starts[i + 1]]) for i, text in enumerate(vocabulary))
    return dict(sorted((text, rows) for text, rows in pieces if len(rows)))
