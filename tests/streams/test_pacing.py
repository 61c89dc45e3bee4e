"""When records are due, by a clock that only the waiting moves."""

import numpy as np
import pytest

from streams.clock import ManualClock
from streams.errors import ConfigurationError
from streams.pacing import Pace, paced
from streams.recording import Recording


def recording(times_ms: list[int], labels: list[bool] | None = None) -> Recording:
    count = len(times_ms)
    return Recording(
        np.asarray(times_ms, np.int64),
        np.asarray(labels or [False] * count),
        [None] * count,
        [b"%d" % time for time in times_ms],
    )


def due(recordings: list[Recording], pace: Pace) -> list[tuple[int, bytes]]:
    """Return (wall time in ms since the start, value) of every record."""
    clock = ManualClock(1_000_000)

    def wait(seconds: float) -> None:
        assert seconds > 0
        clock.advance(max(round(seconds * 1000), 1))

    return [
        (clock.now_ms() - 1_000_000, value)
        for part in paced(recordings, pace, clock, wait)
        for value in part.values
    ]


def test_without_a_pace_nothing_waits() -> None:
    assert [at for at, _ in due([recording([0, 10**9])], Pace())] == [0, 0]


def test_speed_divides_event_time() -> None:
    parts = [recording([5_000, 65_000]), recording([]), recording([125_000])]
    assert [at for at, _ in due(parts, Pace(speed=60.0))] == [0, 1_000, 2_000]


def test_rate_counts_events_and_labels_ride_along() -> None:
    parts = [recording([1, 2, 2, 3], [False, True, False, False]), recording([4, 5], [True, False])]
    got = due(parts, Pace(rate=10.0))
    assert [at for at, _ in got] == [0, 100, 100, 200, 300, 300]
    assert [value for _, value in got] == [b"1", b"2", b"2", b"3", b"4", b"5"]


def test_who_falls_behind_gets_at_once_what_is_due() -> None:
    clock = ManualClock()
    pieces = paced(
        [recording(list(range(0, 100_000, 1000)))], Pace(speed=1.0), clock, lambda _: None
    )
    assert len(next(pieces)) == 1
    clock.advance(50_000)
    assert len(next(pieces)) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.0, "speed": 1.0}, "choose one"),
        ({"rate": 0.0}, "rate 0.0: must be above 0"),
        ({"speed": -1.0}, "speed -1.0: must be above 0"),
        ({"speed": float("nan")}, "must be above 0"),
    ],
)
def test_impossible_paces(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pace(**arguments)
