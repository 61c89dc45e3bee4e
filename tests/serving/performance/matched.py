"""Matches made for the tests of what is told of them."""

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.groups import Groups
from serving.monitoring.matching import Matches

DAY = 86_400_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def matches_of(
    scores: Floats,
    labels: Floats,
    arrived_ms: Ints | int,
    happened_ms: Ints | int | None = None,
    versions: Ints | int = 3,
    groups: Ints | None = None,
) -> Matches:
    """Return n matches; single numbers are of all of them. The event comes with its label."""
    n = len(labels)
    whole = np.arange(n, dtype=np.int64)
    happened = arrived_ms if happened_ms is None else happened_ms
    return Matches(
        scores=scores,
        labels=labels,
        label_times_ms=np.broadcast_to(np.asarray(arrived_ms, np.int64), n),
        versions=np.broadcast_to(np.asarray(versions, np.int64), n),
        groups=np.zeros((n, 0), np.int64) if groups is None else groups,
        event_times_ms=np.broadcast_to(np.asarray(happened, np.int64), n),
        partitions=np.zeros(n, np.int64),
        offsets=whole,
    )


def groups_of(**fields: list[str]) -> Groups:
    """Return groups with the fields, and their texts by code."""
    groups = Groups(tuple(fields))
    groups.load(list(fields.values()))
    return groups


def calibrated(n: int, seed: int, low: float = 0.02, high: float = 0.98) -> tuple[Floats, Floats]:
    """Return scores and labels of a calibrated model."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(low, high, n)
    return scores, (rng.random(n) < scores).astype(np.float64)
