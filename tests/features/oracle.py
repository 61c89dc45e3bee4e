"""What the features are, as slow and obvious as it can be said: lists of past events."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from features.aggregations import Count, Mean, Sum, TimeSinceLast
from features.definition import Category, DayOfWeek, Definition, Feature, HourOfDay, Minus, Number
from streams.durations import seconds
from streams.expressions import Above, Equals, Expression, Value
from streams.stream import EventStream

Row = dict[str, float | str]


@dataclass
class Oracle:
    """Keeps every event for ever."""

    definition: Definition
    events: EventStream
    watermark: int | None = None
    seen: dict[str, int] = field(default_factory=dict)
    counted: list[msgspec.Struct] = field(default_factory=list)
    earlier: list[msgspec.Struct] = field(default_factory=list)
    late: int = 0

    def take(self, value: bytes | None) -> Row | None:
        """Return the features of a record, None where it is a dead letter."""
        try:
            event = msgspec.json.decode(value, type=self.events.type)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return None
        event_id, t = str(getattr(event, self.events.id)), self.time(event)
        if abs(t) > 10**14:
            return None
        if self.watermark is not None and event_id in self.seen:
            oldest = self.watermark // self.events.dedupe_ms - 1
            if self.seen[event_id] >= oldest:
                return None
        self.watermark = t if self.watermark is None else max(self.watermark, t)
        self.seen[event_id] = self.watermark // self.events.dedupe_ms
        row: Row = {}
        for name, feature in self.definition.features.items():
            row[name] = self.value(feature, event, row)
        self.earlier.append(event)
        if t < self.watermark - self.events.lateness_ms:
            self.late += 1
        else:
            self.counted.append(event)
        return row

    def value(self, feature: Feature, event: msgspec.Struct, row: Row) -> float | str:
        """Return one feature's value at an event."""
        match feature:
            case Count():
                inside = self.inside(feature, event)
                return math.nan if inside is None else float(len(inside))
            case Sum():
                inside = self.inside(feature, event)
                return math.nan if inside is None else math.fsum(numbers(inside, feature.of))
            case Mean():
                found = numbers(self.inside(feature, event) or [], feature.of)
                return math.fsum(found) / len(found) if found else math.nan
            case TimeSinceLast():
                times = [self.time(other) for other in self.earlier if self.same(other, event)]
                return max(0, self.time(event) - max(times)) / 1000 if times else math.nan
            case HourOfDay(timezone):
                return str(self.local(event, timezone).hour)
            case DayOfWeek(timezone):
                return str(self.local(event, timezone).weekday())
            case Category(name):
                value = getattr(event, name)
                return "" if value is None else str(value)
            case Number(of):
                number = evaluate(of, event)
                return math.nan if number is None else number
            case Minus(left, right):
                return float(row[left]) - float(row[right])
            case _:
                raise TypeError(f"the oracle does not know {feature!r}")

    def inside(
        self, window: Count | Sum | Mean, event: msgspec.Struct
    ) -> list[msgspec.Struct] | None:
        """Return the counted events in the window, None where its tiles are no longer kept."""
        u = seconds(window.tile) * 1000
        tile = self.time(event) // u
        slack = math.ceil(self.events.lateness_ms / u) + 1
        if tile < (self.watermark or 0) // u - slack:
            return None
        oldest = tile - seconds(window.over) * 1000 // u + 1
        return [
            other
            for other in self.counted
            if self.same(other, event) and oldest <= self.time(other) // u <= tile
        ]

    def time(self, event: msgspec.Struct) -> int:
        """Return an event's time."""
        time_ms: int = getattr(event, self.events.event_time)
        return time_ms

    def same(self, one: msgspec.Struct, other: msgspec.Struct) -> bool:
        """Return whether two events are of one entity."""
        entity = self.events.entity
        return bool(getattr(one, entity) == getattr(other, entity))

    def local(self, event: msgspec.Struct, timezone: str) -> datetime:
        """Return the wall-clock time of an event."""
        whole_s = self.time(event) // 1000
        return datetime.fromtimestamp(whole_s, UTC).astimezone(ZoneInfo(timezone))


def numbers(events: list[msgspec.Struct], of: Expression) -> list[float]:
    """Return the expression's values at those events that have one."""
    values = [evaluate(of, event) for event in events]
    return [value for value in values if value is not None]


def evaluate(of: Expression, event: msgspec.Struct) -> float | None:
    """Return an expression's value at an event, None where it is missing."""
    value = getattr(event, of.fields[0])
    if value is None:
        return None
    match of:
        case Value():
            return float(value)
        case Above(_, threshold):
            return float(value > threshold)
        case Equals(_, wanted):
            return float(value == wanted)
        case _:
            raise TypeError(f"the oracle does not know {of!r}")
