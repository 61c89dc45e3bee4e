"""What is kept of an experiment's outcomes: counts and sums per entity, in arrays.

The memory is that of the entities, not of the outcomes: 16 bytes per entity and metric, and of the
first metric as much for each of :data:`PERIODS` periods of event time, so that its course can be
shown. Periods are multiples of a width since the epoch; where the time does not fit into so many,
neighbours are put together and the width doubles. The outcome is a function of the data, whatever
the order in which it came.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

PERIODS = 16
MINUTE_MS = 60_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

T = TypeVar("T", np.float64, np.int64)

_FIRST = 1 << 10


class Entities:
    """Numbers the entities in the order in which they come; keeps when each was last seen."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._last_ms = np.zeros(_FIRST, np.int64)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def numbers_of(self, names: Sequence[str]) -> Ints:
        """Return the number of each entity, (n,)."""
        known = self._numbers
        for name in names:
            if name not in known:
                known[name] = len(known)
                self.names.append(name)
        return np.fromiter(map(known.__getitem__, names), np.int64, len(names))

    def see(self, numbers: Ints, times_ms: Ints) -> None:
        """Note when entities (n,) were seen, (n,)."""
        self._last_ms = _grown(self._last_ms, len(self))
        np.maximum.at(self._last_ms, numbers, times_ms)

    @property
    def last_ms(self) -> Ints:
        """When each was last seen, milliseconds since the epoch."""
        return _grown(self._last_ms, len(self))[: len(self)]


class Sums:
    """Counts and sums of one metric per entity."""

    def __init__(self) -> None:
        self._counts = np.zeros(_FIRST)
        self._sums = np.zeros(_FIRST)

    def add(self, numbers: Ints, values: Floats) -> None:
        """Add the values (n,) of entities (n,); NaN counts nothing."""
        finite = np.isfinite(values)
        numbers, values = numbers[finite], values[finite]
        if not len(numbers):
            return
        size = int(numbers.max()) + 1
        self._counts, self._sums = _grown(self._counts, size), _grown(self._sums, size)
        self._counts[:size] += np.bincount(numbers, minlength=size)
        self._sums[:size] += np.bincount(numbers, values, minlength=size)

    def merge(self, other: "Sums") -> None:
        """Add all of another's."""
        size = max(len(self._counts), len(other._counts))
        counts, sums = other.of(size)
        self._counts = _grown(self._counts, size)
        self._sums = _grown(self._sums, size)
        self._counts[: len(counts)] += counts
        self._sums[: len(sums)] += sums

    def of(self, entities: int) -> tuple[Floats, Floats]:
        """Return counts and sums of the first ``entities``, (entities,) each."""
        return _grown(self._counts, entities)[:entities], _grown(self._sums, entities)[:entities]


class Course:
    """Counts and sums of one metric per entity and period of event time."""

    def __init__(self) -> None:
        self.width_ms = MINUTE_MS
        self._periods: dict[int, Sums] = {}

    def add(self, numbers: Ints, values: Floats, times_ms: Ints) -> None:
        """Add the values (n,) of entities (n,) at event times (n,)."""
        if not len(numbers):
            return
        self._widen(int(times_ms.min()), int(times_ms.max()))
        period = times_ms // self.width_ms
        for each in np.unique(period).tolist():
            rows = period == each
            self._periods.setdefault(each, Sums()).add(numbers[rows], values[rows])

    def cumulated(self, entities: int) -> list[tuple[int, Floats, Floats]]:
        """Return (end of the period in ms, counts and sums up to there), for each period."""
        counts, sums = np.zeros(entities), np.zeros(entities)
        course = []
        for period in sorted(self._periods):
            more, added = self._periods[period].of(entities)
            counts, sums = counts + more, sums + added
            course.append(((period + 1) * self.width_ms, counts, sums))
        return course

    def _widen(self, first_ms: int, last_ms: int) -> None:
        if self._periods:
            first_ms = min(first_ms, min(self._periods) * self.width_ms)
            last_ms = max(last_ms, max(self._periods) * self.width_ms)
        while last_ms // self.width_ms - first_ms // self.width_ms >= PERIODS:
            self.width_ms *= 2
            wider: dict[int, Sums] = {}
            for period, found in self._periods.items():
                if period // 2 in wider:
                    wider[period // 2].merge(found)
                else:
                    wider[period // 2] = found
            self._periods = wider


def _grown(array: NDArray[T], size: int) -> NDArray[T]:
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger
