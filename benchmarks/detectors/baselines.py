"""The detectors beside ours: river's as they are, STEPD, and an alarm at every n-th instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled

Floats = NDArray[np.float64]


class Contender(Protocol):
    """Takes values up to the first alarm and returns its index, as
    :class:`serving.concept.detector.Detector` does."""

    def update(self, values: Floats) -> int | None:
        """Return the index of the first alarm, or None."""
        ...


class OfRiver:
    """A detector of river. ``rises`` counts an alarm only where ADWIN's mean has risen, as MOA's
    ADWIN detector does."""

    def __init__(self, make: Callable[[], Any], rises: bool = False, whole: bool = False) -> None:
        self._river, self._rises, self._whole = make(), rises, whole

    def update(self, values: Floats) -> int | None:
        """Return the index of the first alarm, or None."""
        river = self._river
        given = values.astype(np.int64).tolist() if self._whole else values.tolist()
        before = 0.0
        for index, value in enumerate(given):
            if self._rises:
                before = river.estimation
            river.update(value)
            if river.drift_detected and (not self._rises or river.estimation > before):
                return index
        return None


class Every:
    """An alarm at every ``n``-th value, whatever the values are."""

    def __init__(self, n: int) -> None:
        self._n = self._left = n

    def update(self, values: Floats) -> int | None:
        """Return the index of the first alarm, or None."""
        if len(values) < self._left:
            self._left -= len(values)
            return None
        index = self._left - 1
        self._left = self._n
        return index


class Stepd:
    """STEPD (Nishida and Yamauchi 2007): the last ``recent`` answers against all before them since
    the last alarm, by the test of equal proportions with the continuity correction, one-sided."""

    def __init__(self, recent: int = 30, alpha: float = 0.003) -> None:
        from scipy.stats import norm

        self._height = float(norm.isf(alpha / 2))
        self._recent = np.zeros(recent)
        self._state = np.zeros(3)

    def update(self, values: Floats) -> int | None:
        """Return the index of the first alarm, or None."""
        index = int(_stepd(values, self._recent, self._state, self._height))
        if index < 0:
            return None
        self._recent[:] = 0.0
        self._state[:] = 0.0
        return index


@compiled
def _stepd(values: Floats, recent: Floats, state: Floats, height: float) -> int:
    """``state``: how many values, errors of the older ones, errors of the recent ones."""
    width = len(recent)
    for i in range(len(values)):
        at = int(state[0]) % width
        if state[0] >= width:
            state[1] += recent[at]
            state[2] -= recent[at]
        recent[at] = values[i]
        state[2] += values[i]
        state[0] += 1.0
        older = state[0] - width
        if older < width:
            continue
        pooled = (state[1] + state[2]) / state[0]
        error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / older + 1.0 / width))
        rise = state[2] / width - state[1] / older
        if rise > 0.0 and rise - 0.5 * (1.0 / older + 1.0 / width) > height * error:
            return i
    return -1
