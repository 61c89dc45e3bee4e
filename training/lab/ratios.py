"""Medians and ratios of timings that a busy machine disturbs. Pure."""

import statistics
from collections.abc import Sequence


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def faster(alone: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times as quick ``other`` is as ``alone``: the median over the rounds.

    Both of a round were timed shortly after each other, so what else ran at that time cancels.
    Rounds that only one of them took do not count.

    >>> faster([1.0, 8.0, 1.2], [0.5, 4.0, 0.5])
    2.0
    """
    return middle([one / two for one, two in zip(alone, other, strict=False)])
