"""The calendar period of event times, in a time zone. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

QUARTER_MS = 900_000
"""All time zones of today are whole quarters of an hour from UTC."""


def periods(
    timezone: str, by: Literal["day", "week", "month"]
) -> Callable[[NDArray[np.int64]], list[str]]:
    """Return a function from event times (n,), milliseconds since the epoch, to names of periods.

    >>> periods("Europe/Rome", "day")(np.array([1_700_000_000_000]))
    ['2023-11-14']
    >>> periods("Europe/Rome", "week")(np.array([1_700_000_000_000]))
    ['2023-W46']
    """
    zone = ZoneInfo(timezone)
    pattern = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[by]

    def names(times_ms: NDArray[np.int64]) -> list[str]:
        quarters, where = np.unique(times_ms // QUARTER_MS, return_inverse=True)
        told = [
            datetime.fromtimestamp(quarter * QUARTER_MS / 1000, UTC).astimezone(zone)
            for quarter in quarters.tolist()
        ]
        texts = [at.strftime(pattern) for at in told]
        return [texts[i] for i in where.tolist()]

    return names
