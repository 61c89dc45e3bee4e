"""Whether the arms of an experiment are what they should be.

Arms that have not the entities of their shares (sample ratio mismatch), or whose entities have
another number of outcomes each, were made unlike by something else than the model: answers or
labels that are lost or doubled. No difference between them means what it seems to.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.experiments.analysis import sequential
from serving.experiments.reading import Readings
from serving.experiments.sizing import Aim
from serving.rollout.sample_ratio import ALPHA, chi_squared_p, is_mismatch
from serving.rollout.statistics import Estimate, difference, estimate_of


@dataclass(frozen=True, slots=True)
class Soundness:
    """Whether the arms are what they should be.

    ``counts`` are entities, control first, ``shares`` what they should be; ``p`` is chi-squared's,
    ``mismatch`` what the test that holds at all times says. ``uneven`` are versions whose entities
    have another number of outcomes each than the control's, ``per_entity`` how many of each arm.
    """

    counts: list[int]
    shares: list[float]
    p: float
    mismatch: bool
    per_entity: list[float]
    uneven: list[int]


def soundness_of(readings: Readings) -> Soundness:
    """Return whether each arm has the entities of its share, and as many outcomes of each."""
    routing, n = readings.routing, len(readings.entities)
    seen, _ = readings.seen.of(n)
    shares = [1 - sum(arm.share for arm in routing.arms), *(arm.share for arm in routing.arms)]
    rows = [seen[(readings.arms == arm) & (seen > 0)] for arm in range(-1, len(routing.arms))]
    counts = [len(own) for own in rows]
    # A control without a share is no arm.
    told = [(c, s) for c, s in zip(counts, shares, strict=True) if s > 1e-9]
    expected, p, mismatch = [s for _, s in told], 1.0, False
    if sum(counts):
        p = chi_squared_p([c for c, _ in told], expected)
        mismatch = is_mismatch([c for c, _ in told], expected)
    means = [_counted(own) for own in rows if len(own)]
    uneven = []
    if len(means) == len(rows):
        strict = Aim(_typical(means[0].mean), alpha=ALPHA, treatments=len(routing.arms))
        for arm, found in zip(routing.arms, means[1:], strict=True):
            limits = sequential(difference(found, means[0]), strict)
            if limits.low > 0 or limits.high < 0:
                uneven.append(arm.version)
    per_entity = [float(own.mean()) if len(own) else 0.0 for own in rows]
    return Soundness(counts, shares, p, mismatch, per_entity, uneven)


def _counted(outcomes: NDArray[np.float64]) -> Estimate:
    """Return the mean of counts (n,), no surer than that of counts by chance (Poisson): entities
    that all have the same few would make any other count look certain."""
    found = estimate_of(outcomes)
    return replace(found, error=max(found.error, math.sqrt(found.mean / len(outcomes))))


def _typical(mean: float) -> float:
    """Return the difference of outcomes per entity at which the test of them is sharpest."""
    return 0.1 * mean if mean else 1.0
