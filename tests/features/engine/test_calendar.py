"""Local hours and weekdays against the standard library, across every kind of clock change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engine.calendar import EARLIEST_MS, LATEST_MS, LocalTime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "America/New_York", "Asia/Kathmandu", "Africa/Monrovia", "Australia/Lord_Howe"]


def expected(timezone: str, times_ms: list[int]) -> list[tuple[int, int]]:
    zone = ZoneInfo(timezone)
    local = [(EPOCH + timedelta(milliseconds=t)).astimezone(zone) for t in times_ms]
    return [(moment.hour, moment.weekday()) for moment in local]


def found(timezone: str, times_ms: list[int]) -> list[tuple[int, int]]:
    clock, times = LocalTime(timezone), np.array(times_ms, dtype=np.int64)
    return list(zip(clock.hours(times).tolist(), clock.weekdays(times).tolist(), strict=True))


@given(
    st.sampled_from(ZONES),
    st.lists(
        st.integers(-2_000_000_000_000, 4_000_000_000_000) | st.integers(EARLIEST_MS, LATEST_MS - 1)
    ),
)
def test_any_time(timezone: str, times_ms: list[int]) -> None:
    assert found(timezone, times_ms) == expected(timezone, times_ms)


@pytest.mark.parametrize(
    ("timezone", "change"),
    [
        ("America/New_York", datetime(2020, 3, 8, 7, tzinfo=UTC)),
        ("America/New_York", datetime(2019, 11, 3, 6, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2020, 4, 4, 15, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(1948, 3, 14, 10, 1, tzinfo=UTC)),  # within a quarter
        ("Europe/Moscow", datetime(1917, 7, 1, 20, 28, 41, tzinfo=UTC)),
    ],
)
def test_around_a_change(timezone: str, change: datetime) -> None:
    middle = round((change - EPOCH) / timedelta(milliseconds=1))
    times_ms = [middle + step for step in (-900_000, -60_000, -1, 0, 1, 60_000, 900_000, 7_200_000)]
    times_ms += times_ms[::-1]
    assert found(timezone, times_ms) == expected(timezone, times_ms)


def test_no_times() -> None:
    assert found("UTC", []) == []
