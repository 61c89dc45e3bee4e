"""Where in a window a change began: a change point over its steps. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.wire import Onset

SMOOTHING = 0.5

Counts = NDArray[np.int64]


def onset_of(expected: Counts, starts: Counts, steps: Counts) -> Onset | None:
    """Return where the change began: ``starts`` (n,) are the steps' in milliseconds, the rest as
    :func:`first_shifted`; None where there are no steps."""
    return Onset(int(starts[first_shifted(expected, steps)])) if len(starts) else None


def first_shifted(expected: Counts, steps: Counts) -> int:
    """Return the number of the step at which the window left the reference.

    ``expected`` (bins,) are the reference's counts, ``steps`` (n, bins) those of the window's
    steps. Up to the step returned the counts are taken to be drawn from the reference's shares,
    from it on from the shares that the rest has: the split of the greatest likelihood. 0 says that
    the window had left the reference before it began, or at its first step.

    >>> before, after = [50, 50], [80, 20]
    >>> first_shifted(np.array([500, 500]), np.array([before, before, after, after]))
    2
    """
    usual = expected + SMOOTHING
    log_usual = np.log(usual / usual.sum())
    of_step = steps @ log_usual
    before = np.concatenate([[0.0], np.cumsum(of_step)])[:-1]
    rest = np.cumsum(steps[::-1], axis=0)[::-1]
    shares = (rest + SMOOTHING) / (rest + SMOOTHING).sum(axis=1, keepdims=True)
    after = (rest * np.log(shares)).sum(axis=1)
    return int(np.argmax(before + after))
