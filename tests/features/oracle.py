"""What the features are, as slow and obvious as it can be said: lists of past events and labels."""

import math
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Remembering,
    Std,
    Sum,
    TimeSinceLast,
    TopShare,
    Variance,
    Windowed,
)
from features.definition import (
    Category,
    DayOfWeek,
    Definition,
    Feature,
    HourOfDay,
    Minus,
    Number,
    Plus,
    Ratio,
    Times,
)
from streams.durations import seconds
from streams.expressions import (
    Above,
    Arithmetic,
    Below,
    Both,
    Constant,
    Either,
    Equals,
    Expression,
    Not,
    OneOf,
    Value,
)
from streams.stream import EventStream, LabelStream

Row = dict[str, float | str]


@dataclass
class Oracle:
    """Keeps every event and label for ever."""

    definition: Definition
    events: EventStream
    labels: LabelStream | None = None
    watermark: int | None = None
    seen: dict[str, int] = field(default_factory=dict)
    counted: list[msgspec.Struct] = field(default_factory=list)
    remembered: dict[tuple[str, object], list[msgspec.Struct]] = field(default_factory=dict)
    label_watermark: int | None = None
    label_ids: dict[str, int] = field(default_factory=dict)
    known: list[msgspec.Struct] = field(default_factory=list)
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
        self.forget(event)
        row: Row = {}
        for name, feature in self.definition.features.items():
            row[name] = self.value(feature, event, row)
        for key in self.definition.keys(self.events, self.labels):
            self.remembered.setdefault((key, getattr(event, key)), []).append(event)
        if t < self.watermark - self.events.lateness_ms:
            self.late += 1
        else:
            self.counted.append(event)
        return row

    def take_label(self, value: bytes | None) -> None:
        """Apply a label, unless it is bad or was there before."""
        assert self.labels is not None
        try:
            label = msgspec.json.decode(value, type=self.labels.type)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return
        label_id, t = str(getattr(label, self.labels.id)), getattr(label, self.labels.event_time)
        if self.label_watermark is not None and label_id in self.label_ids:
            oldest = self.label_watermark // self.events.dedupe_ms - 1
            if self.label_ids[label_id] >= oldest:
                return
        self.label_watermark = t if self.label_watermark is None else max(self.label_watermark, t)
        self.label_ids[label_id] = self.label_watermark // self.events.dedupe_ms
        self.known.append(label)

    def forget(self, event: msgspec.Struct) -> None:
        """Begin anew the entities of the event that have been silent for too long."""
        if self.definition.forget_ms is None or self.watermark is None:
            return
        for key in self.definition.keys(self.events, self.labels):
            past = self.remembered.get((key, getattr(event, key)), [])
            if past and max(map(self.time, past)) < self.watermark - self.definition.forget_ms:
                past.clear()

    def value(self, feature: Feature, event: msgspec.Struct, row: Row) -> float | str:
        """Return one feature's value at an event."""
        match feature:
            case Windowed():
                inside = self.inside(feature, event)
                return (
                    math.nan if inside is None else aggregate(feature, inside, self.when(feature))
                )
            case TimeSinceLast(where=where):
                times = [self.time(e) for e in self.past(feature, event) if holds(where, e)]
                return max(0, self.time(event) - max(times)) / 1000 if times else math.nan
            case DecayedMean(of=of, where=where):
                past = [e for e in self.past(feature, event) if holds(where, e)]
                return self.decayed(of, past, seconds(feature.half_life) * 1000)
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
            case Plus(left, right):
                return float(row[left]) + float(row[right])
            case Minus(left, right):
                return float(row[left]) - float(row[right])
            case Times(left, right):
                return float(row[left]) * float(row[right])
            case Ratio(left, right):
                return float(row[left]) / float(row[right]) if row[right] else math.nan
            case _:
                raise TypeError(f"the oracle does not know {feature!r}")

    def inside(self, window: Windowed, event: msgspec.Struct) -> list[msgspec.Struct] | None:
        """Return what counts in the window, in log order; None where tiles are no longer kept."""
        u, t = window.tile_ms, self.time(event)
        slack = math.ceil(self.events.lateness_ms / u) + 1
        if t // u < (self.watermark or 0) // u - slack:
            return None
        newest = t // u
        if window.delay_ms or window.on == "labels":
            newest = (t - window.delay_ms) // u - 1
        oldest = newest - window.over_ms // u + 1
        key = window.by or self.events.entity
        return [
            other
            for other in (self.known if window.on == "labels" else self.counted)
            if getattr(other, key) == getattr(event, key)
            and oldest <= self.when(window)(other) // u <= newest
            and holds(window.where, other)
        ]

    def past(self, feature: Remembering, event: msgspec.Struct) -> list[msgspec.Struct]:
        """Return the earlier events of the entity, the late ones too."""
        key = feature.by or self.events.entity
        return self.remembered.get((key, getattr(event, key)), [])

    def decayed(self, of: Expression, past: list[msgspec.Struct], half_life_ms: int) -> float:
        """Return the mean of the values, weighted by their age."""
        found = [(evaluate(of, e), self.time(e)) for e in past]
        having = [(value, t) for value, t in found if value is not None]
        if not having:
            return math.nan
        newest = max(t for _, t in having)
        weights = [2.0 ** ((t - newest) / half_life_ms) for _, t in having]
        weighted = [w * value for w, (value, _) in zip(weights, having, strict=True)]
        return math.fsum(weighted) / math.fsum(weights)

    def when(self, window: Windowed) -> Any:
        """Return how a record's time is read."""
        if window.on == "events" or self.labels is None:
            return self.time
        about = self.labels.about or self.labels.event_time
        return lambda label: getattr(label, about)

    def time(self, event: msgspec.Struct) -> int:
        """Return an event's time."""
        time_ms: int = getattr(event, self.events.event_time)
        return time_ms

    def local(self, event: msgspec.Struct, timezone: str) -> datetime:
        """Return the wall-clock time of an event."""
        whole_s = self.time(event) // 1000
        return datetime.fromtimestamp(whole_s, UTC).astimezone(ZoneInfo(timezone))


def aggregate(window: Windowed, inside: list[msgspec.Struct], when: Any) -> float:
    """Return the exact aggregate, where the engine's may be a sketch too."""
    match window:
        case Count():
            return float(len(inside))
        case Rate():
            return len(inside) * seconds(window.per) / seconds(window.over)
        case DistinctCount(field=name):
            return float(len(texts(inside, name)))
        case TopShare(field=name):
            counts = texts(inside, name)
            return max(counts.values()) / sum(counts.values()) if counts else math.nan
        case First() | Last():
            having = [e for e in inside if evaluate(window.of, e) is not None]
            in_time = sorted(having, key=when)
            if not in_time:
                return math.nan
            found = evaluate(window.of, in_time[0 if isinstance(window, First) else -1])
            assert found is not None
            return found
    assert isinstance(window, Sum | Mean | Variance | Std | Min | Max | Quantile)
    values = numbers(inside, window.of)
    match window:
        case Sum():
            return math.fsum(values)
        case Variance() | Std() if len(values) < 2:
            return math.nan
        case Variance():
            return statistics.variance(values)
        case Std():
            return statistics.stdev(values)
        case _ if not values:
            return math.nan
        case Mean():
            return math.fsum(values) / len(values)
        case Min():
            return min(values)
        case Max():
            return max(values)
        case Quantile():
            found = sorted(values)[math.floor(window.q * (len(values) - 1))]
            return min(max(found, window.low), window.high)


def texts(events: list[msgspec.Struct], name: str) -> dict[str, int]:
    """Return how often each text occurs, missing ones left out."""
    counts: dict[str, int] = {}
    for event in events:
        value = getattr(event, name)
        if value is not None and value != "":
            counts[str(value)] = counts.get(str(value), 0) + 1
    return counts


def numbers(events: list[msgspec.Struct], of: Expression) -> list[float]:
    """Return the expression's values at those events that have one."""
    values = [evaluate(of, event) for event in events]
    return [value for value in values if value is not None]


def holds(where: Expression | None, event: msgspec.Struct) -> bool:
    """Return whether a condition surely holds."""
    return where is None or evaluate(where, event) == 1


def evaluate(of: Expression, event: msgspec.Struct) -> float | None:
    """Return an expression's value at an event, None where it is missing."""
    match of:
        case Constant(number):
            return number
        case Arithmetic(operator, left, right):
            return compute(operator, evaluate(left, event), evaluate(right, event))
        case Both(one, other):
            found = {evaluate(one, event), evaluate(other, event)}
            return 0.0 if 0 in found else None if None in found else 1.0
        case Either(one, other):
            found = {evaluate(one, event), evaluate(other, event)}
            return 1.0 if 1 in found else None if None in found else 0.0
        case Not(condition):
            inner = evaluate(condition, event)
            return None if inner is None else 1 - inner
    value = getattr(event, of.fields[0])
    if value is None:
        return None
    match of:
        case Value():
            return float(value)
        case Above(_, threshold):
            return float(value > threshold)
        case Below(_, threshold):
            return float(value < threshold)
        case Equals(_, wanted):
            return float(value == wanted)
        case OneOf(_, wanted):
            return float(value in wanted)
        case _:
            raise TypeError(f"the oracle does not know {of!r}")


def compute(operator: str, left: float | None, right: float | None) -> float | None:
    """Return a finite result of plain arithmetic, else None."""
    if left is None or right is None or (operator == "/" and right == 0):
        return None
    made = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
    }[operator]()
    return made if math.isfinite(made) else None
