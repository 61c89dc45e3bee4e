"""The generated stream: the same for the same seed, ordinary first, changed later."""

from itertools import chain

import msgspec
import numpy as np
import pytest

from examples.citibike import TripEnd, TripStart
from examples.citibike_demo import DAYS, DRIFT_AT, RAMP_DAYS, START, TRIPS, generate
from streams.merging import ascending
from streams.recording import Recording

DAY_MS = 86_400_000


def everything(seed: int, scale: float) -> list[tuple[int, bytes | None, bytes]]:
    return list(
        chain.from_iterable(
            zip(part.timestamps_ms.tolist(), part.keys, part.values, strict=True)
            for part in generate(seed, scale)
        )
    )


@pytest.fixture(scope="module")
def parts() -> list[Recording]:
    return list(ascending(generate(7, 1.0)))


@pytest.fixture(scope="module")
def trips(parts: list[Recording]) -> list[tuple[TripStart, TripEnd]]:
    events, labels = (
        [
            value
            for part in parts
            for value, label in zip(part.values, part.is_label, strict=True)
            if label == wanted
        ]
        for wanted in (False, True)
    )
    ends = {end.trip_id: end for end in (msgspec.json.decode(v, type=TripEnd) for v in labels)}
    starts = [msgspec.json.decode(value, type=TripStart) for value in events]
    assert len(ends) == len(labels) == len(starts)
    return [(start, ends[start.trip_id]) for start in starts]


def test_a_seed_decides_every_byte() -> None:
    assert everything(3, 0.05) == everything(3, 0.05)
    assert everything(3, 0.05) != everything(4, 0.05)


def test_size_follows_the_scale(trips: list[tuple[TripStart, TripEnd]]) -> None:
    assert len(trips) == pytest.approx(TRIPS, rel=0.02)
    assert len(everything(7, 0.1)) == pytest.approx(0.2 * TRIPS, rel=0.05)


def test_it_comes_day_by_day(parts: list[Recording]) -> None:
    assert len(parts) in (DAYS, DAYS + 1)
    for part in parts:
        assert part.timestamps_ms[-1] - part.timestamps_ms[0] < DAY_MS


def test_ids_are_unique_and_labels_end_what_began(
    trips: list[tuple[TripStart, TripEnd]],
) -> None:
    assert len({start.trip_id for start, _ in trips}) == len(trips)
    for start, end in trips:
        assert end.station == start.station
        assert end.ended_at_ms == start.started_at_ms + end.duration_s * 1000


def test_drift_comes_where_it_is_scripted(trips: list[tuple[TripStart, TripEnd]]) -> None:
    first_ms = START.timestamp() * 1000
    day = np.array([(start.started_at_ms - first_ms) / DAY_MS for start, _ in trips])
    long = np.array([end.duration_s > 900 for _, end in trips])
    casual = np.array([start.user_type == "Customer" for start, _ in trips])
    before, after = day < DRIFT_AT * DAYS, day > DRIFT_AT * DAYS + RAMP_DAYS
    assert long[before].mean() == pytest.approx(0.14, abs=0.02)
    assert long[after].mean() == pytest.approx(0.48, abs=0.04)
    assert casual[before].mean() < 0.15 < 0.4 < casual[after].mean()
    per_day_before = before.sum() / (DRIFT_AT * DAYS)
    per_day_after = after.sum() / (DAYS - DRIFT_AT * DAYS - RAMP_DAYS)
    assert per_day_after < 0.7 * per_day_before
