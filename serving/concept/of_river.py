"""ADWIN and Page-Hinkley of river behind our interface.

river's detectors have no form that can be stored other than a pickle, so what is kept is their
input: the values since they began anew, of which they are a function, at most :data:`MEMORY`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.concept.detector import Floats

if TYPE_CHECKING:
    from river.drift import ADWIN
    from river.drift import PageHinkley as PageHinkley_

MEMORY = 50_000
"""Values that are kept. At one more the older half is forgotten and the detector made again."""
CLOCK = 32
"""ADWIN looks for a cut at every so many values."""
WARM_UP = 200
"""Page-Hinkley measures values in the mean and standard deviation of the first so many."""
LEAST_RATE = 1e-200
TOLERATED = 0.1
"""Page-Hinkley forgives a rise of so many standard deviations."""


class _Replayed(ABC):
    """What both have in common: the input is kept, and gone through again after a restart, or where
    the rate has become lower.

    The evidence that a rate asks for is about proportional to its logarithm and to the variance of
    sums of values, so of values whose sums vary more, the rate is raised to that power.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.onset = 0
        self.span = 0
        self.chance = 1.0
        self._aim = rate
        self._begin()

    def _begin(self) -> None:
        self._kept: list[float] = []
        self._make()

    @abstractmethod
    def _make(self) -> None:
        """Make the detector of river anew."""

    @abstractmethod
    def _feed(self, value: float) -> bool:
        """Give it a value; returns whether there is an alarm."""

    def update(self, values: Floats, dispersion: float = 1.0) -> int | None:
        """Take values up to the first alarm and return its index; see the protocol."""
        self.chance = 1.0
        self._aim_at(max(LEAST_RATE, self.rate ** max(1.0, dispersion)))
        for index, value in enumerate(values.tolist()):
            if len(self._kept) == MEMORY:
                self._take_over(self._kept[MEMORY // 2 :])
            self._kept.append(value)
            if self._feed(value):
                self.chance, self.span = self.rate, len(self._kept)
                self._begin()
                return index
        self.span = len(self._kept)
        return None

    def _aim_at(self, rate: float) -> None:
        """Set the detector for a rate, unless it is about so. A lower rate holds at once. A higher
        one holds from when it begins anew: in what is kept it would find what is no news."""
        stricter = math.log(rate) / math.log(self._aim)
        if stricter > 1.1 or (stricter < 0.9 and not self._kept):
            self._aim = rate
            self._take_over(self._kept)

    def _take_over(self, values: list[float]) -> None:
        self._begin()
        for value in values:
            self._kept.append(value)
            if self._feed(value):  # of a window that began later, or after a fall
                self._begin()

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        content = {"aim": self._aim, "onset": self.onset, "span": self.span, "chance": self.chance}
        return content, {"kept": np.array(self._kept, np.float64)}

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._aim = float(content["aim"])
        self._take_over(np.asarray(arrays["kept"], np.float64).tolist())
        self.onset, self.span = int(content["onset"]), int(content["span"])
        self.chance = float(content["chance"])


class Adwin(_Replayed):
    """ADWIN (Bifet and Gavaldà 2007): the mean of a window that shrinks where it changes.

    Its confidence δ bounds how often a look at a stationary window finds a cut, so δ is ``rate``
    times :data:`CLOCK`; ADWIN's bound is far from tight.
    """

    _river: ADWIN

    def _make(self) -> None:
        from river.drift import ADWIN

        self._river = ADWIN(delta=min(0.5, self._aim * CLOCK), clock=CLOCK)

    def _feed(self, value: float) -> bool:
        river = self._river
        before = river.total / river.width if river.width else value
        river.update(value)
        if not river.drift_detected:
            return False
        if river.estimation > before:
            self.onset = likeliest_cut(np.array(self._kept))
            return True
        self._begin()  # as river does with the next value
        return False


class PageHinkley(_Replayed):
    """Page-Hinkley (Page 1954): the rise of the sum of what lies above the mean.

    Its height follows from ``rate`` by the exponential law of the excursions of a random walk that
    drifts down by :data:`TOLERATED` standard deviations, with the skewness of the first values
    allowed for (Siegmund 1985): an approximation.
    """

    _river: PageHinkley_ | None

    def _make(self) -> None:
        self._river = None

    def _feed(self, value: float) -> bool:
        river = self._river
        if river is None:
            if len(self._kept) < WARM_UP:
                return False
            return self._warm_up()
        river.update((value - self._centre) / self._scale)
        if not river.drift_detected:
            return False
        self.onset = likeliest_cut(np.array(self._kept))
        return True

    def _warm_up(self) -> bool:
        from river.drift import PageHinkley as OfRiver

        first = np.array(self._kept)
        self._centre = float(first.mean())
        self._scale = max(float(first.std()), 1e-3 * abs(self._centre), 1e-9)
        skewness = float((((first - self._centre) / self._scale) ** 3).mean())
        decay = 2 * TOLERATED * min(1.0, max(0.25, 1 - 2 / 3 * TOLERATED * skewness))
        height = max(1.0, math.log(2 * TOLERATED**2 / self._aim) / decay)
        self._river = OfRiver(
            # river's fading lets the sum come back from where it has drifted to, as an alarm would
            threshold=height,
            delta=TOLERATED,
            alpha=1.0,
            mode="up",
        )
        for value in self._kept:
            self._river.update((value - self._centre) / self._scale)
            if self._river.drift_detected:
                self.onset = likeliest_cut(first)
                return True
        return False


def likeliest_cut(values: Floats) -> int:
    """Return how many of the last values (n,), n ≥ 2, had most probably another, higher mean.

    That of the cut with the largest n₁ n₂ / n · (m₂ − m₁)², as for normal values.
    """
    n = len(values)
    newer = np.arange(1, n)
    sums = np.cumsum(values[::-1])
    rise = sums[:-1] / newer - (sums[-1] - sums[:-1]) / (n - newer)
    gain = np.where(rise > 0, newer * (n - newer) / n * rise**2, 0.0)
    return int(newer[int(gain.argmax())])
