"""Makes bike trips for ``kappa demo``: ordinary weeks, and then life changes.

The stream resembles the real one: a daily rhythm, commuters and leisure riders, stations with
trips of their own typical lengths. After :data:`DRIFT_AT` of the time leisure riders take over,
trips get long and traffic drops, as it happened in the spring of 2020, only faster.
"""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streams.merging import concatenate, cut, in_order
from streams.recording import Recording
from streams.rows import recording_of

DAYS = 42
TRIPS = 60_000
DRIFT_AT = 0.7
RAMP_DAYS = 1.0
START = datetime(2025, 4, 7, tzinfo=ZoneInfo("America/New_York"))  # a Monday, no clock change near

STATIONS = 20
BIKES = 450
TRAFFIC_AFTER = 0.6
LEISURE_SHARE = (0.10, 0.60)
LONGER_AFTER = 1.4

EVENT_FIELDS = ("trip_id", "station", "bike", "user_type", "started_at_ms")
LABEL_FIELDS = ("trip_id", "station", "ended_at_ms", "duration_s")

_DAY_MS = 86_400_000
_WORKDAY = np.array([1, 1, 1, 1, 2, 8, 22, 40, 52, 30, 20, 22, 26, 26, 26, 30, 42, 62, 64, 44, 30,
                     20, 12, 5], dtype=np.float64)  # fmt: skip
_WEEKEND = np.array([5, 3, 2, 1, 1, 2, 5, 10, 18, 28, 36, 42, 46, 48, 48, 46, 44, 42, 36, 30, 22,
                     16, 12, 8], dtype=np.float64)  # fmt: skip


def generate(seed: int, scale: float) -> Iterator[Recording]:
    """Yield :data:`DAYS` days of trips, about ``scale`` times :data:`TRIPS`, a day at a time.

    The same seed and scale give the same bytes.
    """
    stations = _Stations(np.random.default_rng([seed, DAYS]))
    per_day = scale * TRIPS / sum(_traffic(day) for day in range(DAYS))
    under_way = concatenate([])
    for day in range(DAYS):
        random = np.random.default_rng([seed, day])
        today = _trips_of(day, int(random.poisson(per_day * _traffic(day))), random, stations)
        recording = in_order(concatenate([under_way, today]))
        midnight_ms = _start_ms(day + 1)
        ended = int(np.searchsorted(recording.timestamps_ms, midnight_ms, "left"))
        under_way = cut(recording, ended, len(recording))
        yield cut(recording, 0, ended)
    yield under_way


class _Stations:
    """What stations differ in: how busy they are, and how far people ride from there."""

    def __init__(self, random: np.random.Generator) -> None:
        self.names = np.array([str(3180 + number) for number in range(STATIONS)])
        self.busyness = random.dirichlet(np.full(STATIONS, 3.0))
        self.log_factor = random.normal(0.0, 0.25, STATIONS)


def drift(day: float) -> float:
    """Return how far the change has come on a day: 0 before, 1 after, rising in between."""
    return float(np.clip((day - DRIFT_AT * DAYS) / RAMP_DAYS, 0.0, 1.0))


def _traffic(day: int) -> float:
    weekend = 0.8 if day % 7 >= 5 else 1.0
    return weekend * (1.0 + (TRAFFIC_AFTER - 1.0) * drift(day))


def _trips_of(day: int, trips: int, random: np.random.Generator, stations: _Stations) -> Recording:
    changed, weekend = drift(day), day % 7 >= 5
    rhythm = _WEEKEND if weekend else (1 - changed / 2) * _WORKDAY + changed / 2 * _WEEKEND
    hours = random.choice(24, trips, p=rhythm / rhythm.sum())
    starts_ms = _start_ms(day) + hours * 3_600_000 + random.integers(0, 3_600_000, trips)
    bikes = random.integers(20_000, 20_000 + BIKES, trips)
    station = random.choice(STATIONS, trips, p=stations.busyness)
    share = LEISURE_SHARE[0] + (LEISURE_SHARE[1] - LEISURE_SHARE[0]) * changed
    leisure = random.random(trips) < share * np.where(weekend | (hours >= 18), 1.4, 0.85)
    durations_s = _durations_s(hours, leisure, stations.log_factor[station], changed, random)
    # A bike can't start twice in one millisecond: ids are unique.
    _, first = np.unique(bikes * _DAY_MS + starts_ms % _DAY_MS, return_index=True)
    keep = np.sort(first)
    return _recording(
        starts_ms[keep], durations_s[keep], bikes[keep],
        stations.names[station[keep]].tolist(), leisure[keep],
    )  # fmt: skip


def _durations_s(
    hours: NDArray[np.int64],
    leisure: NDArray[np.bool_],
    log_factor: NDArray[np.float64],
    changed: float,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Return whole seconds (n,), at least 61 as in the operator's files."""
    rush = (hours >= 7) & (hours < 10)
    centre = np.where(leisure, np.log(880.0), np.log(430.0)) + np.where(rush, -0.15, 0.0)
    centre = centre + log_factor + np.log(LONGER_AFTER) * changed
    spread = np.where(leisure, 0.75, 0.6)
    seconds = np.exp(centre + spread * random.standard_normal(len(hours)))
    whole: NDArray[np.int64] = np.clip(seconds, 61.0, 2 * 86_400.0).astype(np.int64)
    return whole


def _recording(
    starts_ms: NDArray[np.int64],
    durations_s: NDArray[np.int64],
    bikes: NDArray[np.int64],
    stations: list[str],
    leisure: NDArray[np.bool_],
) -> Recording:
    starts, names = starts_ms.tolist(), list(map(str, bikes.tolist()))
    ids = [f"{bike}-{start}" for bike, start in zip(names, starts, strict=True)]
    users = np.where(leisure, "Customer", "Subscriber").tolist()
    ends_ms = starts_ms + durations_s * 1000
    events = recording_of(
        starts_ms, False, stations, EVENT_FIELDS, [ids, stations, names, users, starts]
    )
    seconds = durations_s.astype(np.float64).tolist()
    labels = recording_of(
        ends_ms, True, stations, LABEL_FIELDS, [ids, stations, ends_ms.tolist(), seconds]
    )
    return concatenate([events, labels])


def _start_ms(day: int) -> int:
    return int(START.timestamp() * 1000) + day * _DAY_MS
