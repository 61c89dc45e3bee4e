"""A small stream with every kind of field and feature, windows short enough for random logs."""

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from features.aggregations import Count, Mean, Sum, TimeSinceLast
from features.definition import Category, DayOfWeek, Definition, Feature, HourOfDay, Minus, Number
from streams.batch import LogBatch
from streams.expressions import Above, Equals, Value
from streams.stream import EventStream

START_MS = 1_583_625_600_000  # 2020-03-08 00:00 UTC, seven hours before New York's clocks change


class Ride(msgspec.Struct, frozen=True):
    ride: str
    rider: str
    at: int
    price: float | None = None
    stops: Annotated[int, msgspec.Meta(ge=0)] = 0
    member: bool = False
    zone: Literal["north", "south"] | None = None
    bike: int | str = 0


RIDES = EventStream(Ride, id="ride", entity="rider", event_time="at", lateness="12s", dedupe="40s")

FEATURES: dict[str, Feature] = {
    "hour": HourOfDay("America/New_York"),
    "rides_10s": Count("10s", "5s"),
    "rides_30s": Count("30s", "5s"),
    "rides_7s": Count("7s", "7s"),
    "spent_30s": Sum(Value("price"), "30s", "5s"),
    "spent_60s": Sum(Value("price"), "60s", "20s"),
    "zone": Category("zone"),
    "price_30s": Mean(Value("price"), "30s", "5s"),
    "price_10s": Mean(Value("price"), "10s", "5s"),
    "stops_30s": Mean(Value("stops"), "30s", "5s"),
    "many_stops": Sum(Above("stops", 2), "20s", "1s"),
    "since": TimeSinceLast(),
    "price": Number(Value("price")),
    "dearer": Minus("price", "price_30s"),
    "is_north": Number(Equals("zone", "north")),
    "weekday": DayOfWeek("Asia/Kathmandu"),
}
DEFINITION = Definition(3, FEATURES, groups=("member", "bike"))


def ride(n: int, at_s: float, **fields: Any) -> bytes:
    """Return the JSON of ride number ``n``, ``at_s`` seconds after the start."""
    event = {"ride": f"r{n}", "rider": "ann", "at": START_MS + round(at_s * 1000), **fields}
    return msgspec.json.encode(event)


def log_of(values: list[bytes | None], first: int = 0) -> LogBatch:
    """Return a batch that begins at offset ``first``; offsets leave gaps, as real logs do."""
    offsets = 2 * np.arange(first, first + len(values), dtype=np.int64)
    return LogBatch(
        topic="rides.events.v1",
        partition=1,
        offsets=offsets,
        timestamps_ms=START_MS + offsets,
        keys=[f"key{offset}".encode() for offset in offsets.tolist()],
        values=values,
        next_offset=2 * (first + len(values)),
    )
