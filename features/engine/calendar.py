"""Local hour and weekday of many event times at once."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
QUARTER_MS = 900_000

EARLIEST_MS = -62_135_596_800_000 + DAY_MS
"""0001-01-02 UTC: before it some zone's local time has no date."""
LATEST_MS = 253_402_300_800_000 - DAY_MS
"""9999-12-31 UTC, exclusive."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday = 0


class LocalTime:
    """A time zone's wall clock.

    The offset from UTC is looked up once per quarter of an hour that occurs, since zones change
    their offset at quarters; the few historical quarters in which one changes at another minute
    are looked up event by event.
    """

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._offsets_ms: dict[int, int | None] = {}

    def hours(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the local hour, 0 to 23, shape (n,)."""
        hours: NDArray[np.int64] = self._local_ms(times_ms) // HOUR_MS % 24
        return hours

    def weekdays(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the local weekday, Monday = 0 to Sunday = 6, shape (n,)."""
        weekdays: NDArray[np.int64] = (self._local_ms(times_ms) // DAY_MS + _EPOCH_WEEKDAY) % 7
        return weekdays

    def _local_ms(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the wall clock's reading as milliseconds since its own 1970-01-01 00:00."""
        local_ms = times_ms.astype(np.int64, copy=True)
        quarters = times_ms // QUARTER_MS
        starts = np.flatnonzero(np.diff(quarters, prepend=quarters[:1] - 1))
        ends = np.append(starts[1:], len(times_ms))
        offsets_ms = np.zeros(len(starts), dtype=np.int64)
        for i, quarter in enumerate(quarters[starts].tolist()):
            offset_ms = self._quarter_offset_ms(quarter)
            if offset_ms is None:
                stretch = slice(starts[i], ends[i])
                local_ms[stretch] += [self._offset_ms(t) for t in times_ms[stretch].tolist()]
            else:
                offsets_ms[i] = offset_ms
        local_ms += np.repeat(offsets_ms, ends - starts)
        return local_ms

    def _quarter_offset_ms(self, quarter: int) -> int | None:
        """Return the offset that holds throughout a quarter, or None where it changes within."""
        if quarter not in self._offsets_ms:
            first = self._offset_ms(quarter * QUARTER_MS)
            last = self._offset_ms((quarter + 1) * QUARTER_MS - 1)
            self._offsets_ms[quarter] = first if first == last else None
        return self._offsets_ms[quarter]

    def _offset_ms(self, time_ms: int) -> int:
        moment = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(self._zone)
        offset = moment.utcoffset()
        return 0 if offset is None else round(offset / timedelta(milliseconds=1))
