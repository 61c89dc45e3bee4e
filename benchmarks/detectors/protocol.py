"""How a detector's alarms are counted, and which detectors no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.baselines import Contender
from benchmarks.detectors.naive_bayes import NaiveBayes
from benchmarks.detectors.tasks import LENGTH, Instances

CHUNK = 2_000
WITHIN = 10_000
"""An alarm later than so many instances after a drift has not found it."""


@dataclass(frozen=True)
class Score:
    """Of one stream, or the mean over several: drifts found and missed, false alarms, and the mean
    delay of the found ones in instances (infinite where none was found)."""

    found: float
    missed: float
    false_alarms: float
    delay: float


def alarms_with_learner(instances: Instances, detector: Contender) -> list[int]:
    """Return the alarms of a detector that sees the learner's errors; each alarm makes the learner
    begin anew (Gama et al. 2004)."""
    learner = NaiveBayes(instances)
    found, at = [], 0
    while at < LENGTH:
        end = min(at + CHUNK, LENGTH)
        index = detector.update(learner.errors(at, end))
        if index is None:
            at = end
            continue
        at += index + 1  # what the learner took after the alarm is forgotten with the rest
        found.append(at - 1)
        learner.reset()
    return found


def all_alarms(values: NDArray[np.float64], detector: Contender) -> list[int]:
    """Return the alarms of a detector on values that do not depend on them."""
    found, at = list[int](), 0
    while at < len(values):
        index = detector.update(values[at:])
        if index is None:
            break
        at += index + 1
        found.append(at - 1)
    return found


def score(alarms: Sequence[int], drifts: Sequence[int], length: int = LENGTH) -> Score:
    """Count: the first alarm after a drift and before the next one is true where it comes within
    :data:`WITHIN`; all others are false."""
    given = np.array(alarms, np.int64)
    delays = []
    for begin, end in zip(drifts, [*drifts[1:], length], strict=True):
        within = given[(given >= begin) & (given < end)]
        if len(within) and within[0] - begin < WITHIN:
            delays.append(int(within[0]) - begin)
    found = len(delays)
    return Score(
        found=found,
        missed=len(drifts) - found,
        false_alarms=len(given) - found,
        delay=float(np.mean(delays)) if delays else float("inf"),
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean; the delay over the found drifts alone."""
    found = [each.found for each in scores]
    weighed = [each.delay * each.found for each in scores if each.found]
    return Score(
        found=float(np.mean(found)),
        missed=float(np.mean([each.missed for each in scores])),
        false_alarms=float(np.mean([each.false_alarms for each in scores])),
        delay=float(sum(weighed) / sum(found)) if sum(found) else float("inf"),
    )


def _key(one: Score) -> tuple[float, float, float]:
    return (one.delay, one.false_alarms, one.missed)


def beaten_by(scores: dict[str, Score], name: str) -> list[str]:
    """Return who is at least as good in delay, false alarms and missed drifts, and better in one of
    them."""
    own = _key(scores[name])
    return [
        other
        for other, one in scores.items()
        if _key(one) != own and all(a <= b for a, b in zip(_key(one), own, strict=True))
    ]


def front(scores: dict[str, Score]) -> set[str]:
    """Return who is on the Pareto front: beaten by no other."""
    return {name for name in scores if not beaten_by(scores, name)}
