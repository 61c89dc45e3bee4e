"""Rates: from what was counted now and then to records per second."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

WITHIN_MS = 10_000
"""Rates are means over so long."""


class Rates:
    """Counts that only grow, by name.

    >>> rates = Rates()
    >>> rates.take(0, {"a": 100})
    >>> rates.take(2_000, {"a": 300})
    >>> rates.of("a")
    100.0
    """

    def __init__(self, within_ms: int = WITHIN_MS) -> None:
        self._within_ms = within_ms
        self._looks: deque[tuple[int, Mapping[Hashable, int]]] = deque()

    def take(self, now_ms: int, counts: Mapping[Hashable, int]) -> None:
        """Add what was counted at ``now_ms``, a clock that does not go back."""
        self._looks.append((now_ms, dict(counts)))
        while len(self._looks) > 2 and self._looks[1][0] <= now_ms - self._within_ms:
            self._looks.popleft()

    def of(self, name: Hashable) -> float | None:
        """Return the rate per second; None where it was not counted twice yet."""
        if len(self._looks) < 2:
            return None
        (begin_ms, first), (end_ms, last) = self._looks[0], self._looks[-1]
        if name not in first or name not in last or end_ms <= begin_ms:
            return None
        return max(0, last[name] - first[name]) * 1000 / (end_ms - begin_ms)

    def forget(self) -> None:
        """Begin anew, after a time in which nothing was counted."""
        self._looks.clear()
