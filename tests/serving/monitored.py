"""A tiny pipeline that is monitored: one numeric feature, one category, one group."""

from collections.abc import Callable

import msgspec
import numpy as np

from features.definition import Category, Definition, Number
from features.records import FeatureRows
from serving.monitoring.label_records import LabelRows
from streams.expressions import Above, Value
from streams.stream import EventStream, LabelStream

DAY = 86_400_000
HOUR = 3_600_000
START = 18_262 * DAY
PARTITIONS = 2


class Trip(msgspec.Struct):
    """An event."""

    id: str
    rider: str
    at_ms: int
    distance: float
    kind: str
    user: str


class End(msgspec.Struct):
    """A label."""

    id: str
    rider: str
    at_ms: int
    minutes: float


EVENTS = EventStream(Trip, id="id", entity="rider", event_time="at_ms", partitions=PARTITIONS)
LABELS = LabelStream(
    End, id="id", entity="rider", event_time="at_ms", target=Above("minutes", 15.0)
)
DEFINITION = Definition(
    1, {"distance": Number(Value("distance")), "kind": Category("kind")}, groups=("user",)
)

V2 = Definition(
    2, {"miles": Number(Value("distance")), "kind": Category("kind")}, groups=("user", "kind")
)


def feature_rows(
    partition: int,
    times_ms: list[int],
    distances: list[float],
    first: int = 0,
    definition: Definition = DEFINITION,
) -> FeatureRows:
    """Return rows whose ids and offsets are numbered from ``first``."""
    n = len(times_ms)
    numbers = range(first, first + n)
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{partition}-{i}" for i in numbers],
        entities=[f"r{i % 3}" for i in numbers],
        event_times_ms=np.array(times_ms, dtype=np.int64),
        source_offsets=np.array(numbers, dtype=np.int64),
        numeric=np.array(distances, dtype=np.float64).reshape(n, 1),
        categories=[["bike" if i % 2 else "dock" for i in numbers]],
        groups=[[_GROUPS[field](i) for i in numbers] for field in definition.groups],
    )


_GROUPS: dict[str, Callable[[int], str]] = {
    "user": lambda i: "member" if i % 3 else "guest",
    "kind": lambda i: "bike" if i % 2 else "dock",
}


def label_rows(event_ids: list[str], labels: list[float], times_ms: list[int]) -> LabelRows:
    """Return labels at offsets from 0."""
    n = len(event_ids)
    return LabelRows(
        event_ids,
        np.array(labels, dtype=np.float64),
        np.array(times_ms, dtype=np.int64),
        np.arange(n),
        np.arange(n),
    )


def part_of(rows: FeatureRows, part: slice) -> FeatureRows:
    """Return some of the rows, as a later or an earlier read would have had them."""
    return FeatureRows(
        rows.partition,
        rows.event_ids[part],
        rows.entities[part],
        rows.event_times_ms[part],
        rows.source_offsets[part],
        rows.numeric[part],
        [column[part] for column in rows.categories],
        [column[part] for column in rows.groups],
    )
