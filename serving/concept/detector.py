"""What finds changes in a stream of losses: one interface for all detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Detector(Protocol):
    """Raises an alarm where the mean of a stream of losses in [0, 1] has risen.

    A fold: whatever the cuts between updates are, the same values give the same alarms, and after
    an alarm it begins anew.
    """

    rate: float
    """False alarms per value of a stream without a change that it is set for. It may be changed."""

    onset: int
    """Of the last alarm: how many values, the alarm's included, came since the change."""

    @property
    def span(self) -> int:
        """How many values, up to the newest one taken or the alarm, it looked at: those from before
        a fall are not among them, nor what it has no room for."""
        ...

    @property
    def chance(self) -> float:
        """Per value, how often a stream without a change gives evidence as large as the largest
        of the last update; :attr:`rate` or less at an alarm."""
        ...

    def update(self, values: Floats, dispersion: float = 1.0) -> int | None:
        """Take values (n,) up to the first alarm and return its index, or None where none raised
        one. The values after it have not been taken: they go into the next update.

        ``dispersion`` says by which factor sums of these values vary more than those of
        independent ones do.
        """
        ...

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        ...

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned, of a detector made in the same way."""
        ...


def alarms(detector: Detector, values: Floats) -> list[tuple[int, int]]:
    """Return (index, onset's index) of each alarm in a stream (n,)."""
    found, begin = [], 0
    while begin < len(values):
        index = detector.update(values[begin:])
        if index is None:
            break
        begin += index + 1
        found.append((begin - 1, begin - detector.onset))
    return found
