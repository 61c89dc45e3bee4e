"""The features of what is asked now, which no log holds: by the worker's decoder and functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from features.definition import Category, DayOfWeek, Definition, HourOfDay, Number, RowFeature
from features.engine.calendar import LocalTime
from features.engine.columns import EventColumns, EventDecoder
from streams.batch import LogBatch
from streams.stream import EventStream

Values = dict[str, float | str | None]
Request = msgspec.Struct | Mapping[str, Any]

_ID = "request"


class RequestFeatures:
    """The row features of single events, by the worker's decoder."""

    def __init__(self, definition: Definition, events: EventStream) -> None:
        self._events = events
        self._types = {field.name: field.type for field in msgspec.structs.fields(events.type)}
        self._features: dict[str, RowFeature] = {
            name: feature
            for name, feature in definition.features.items()
            if isinstance(feature, RowFeature)
        }
        self._of_time = {
            name: feature
            for name, feature in self._features.items()
            if isinstance(feature, HourOfDay | DayOfWeek)
        }
        self._decoder = (
            EventDecoder(Definition(definition.version, self._features), events)
            if self._features
            else None
        )
        self._clocks = {f.timezone: LocalTime(f.timezone) for f in self._of_time.values()}

    def completed(
        self, request: Request, keys: Mapping[str, str], at_ms: int | None
    ) -> dict[str, Any]:
        """Return the request's fields; what is known besides stands in for what they lack."""
        given: dict[str, Any] = dict(
            msgspec.structs.asdict(request) if isinstance(request, msgspec.Struct) else request
        )
        known: dict[str, Any] = {**keys, self._events.id: _ID}
        made = {
            field: int(value) if self._types[field] is int and value.isdecimal() else value
            for field, value in known.items()
            if field in self._types
        }
        if self._types[self._events.id] is int:
            made[self._events.id] = 0
        if at_ms is not None:
            made[self._events.event_time] = at_ms
        return made | given

    def of(self, events: Sequence[Mapping[str, Any]]) -> list[Values | str]:
        """Return the row features of each event, or why it is none.

        ``events`` are complete fields (:meth:`completed`), their time in milliseconds.
        """
        if self._decoder is None:
            return [{} for _ in events]
        columns, dead = self._decoder.decode(_batch(list(map(msgspec.json.encode, events))))
        made = self._columns(columns)
        found: list[Values | str] = [""] * len(events)
        for place, row in enumerate(columns.rows.tolist()):
            found[row] = {name: column[place] for name, column in made.items()}
        for letter in dead:
            found[letter.offset] = letter.reason
        return found

    def of_times(self, times_ms: Sequence[int]) -> list[Values]:
        """Return of each time, milliseconds since the epoch, the features that it alone decides."""
        at = np.array(times_ms, np.int64)
        made = {name: self._of_clock(feature, at) for name, feature in self._of_time.items()}
        return [{name: column[i] for name, column in made.items()} for i in range(len(at))]

    def _columns(self, columns: EventColumns) -> dict[str, list[Any]]:
        made: dict[str, list[Any]] = {}
        for name, feature in self._features.items():
            match feature:
                case Number(expression):
                    place = self._decoder.expressions.index(expression) if self._decoder else 0
                    values = columns.numbers[:, place]
                    made[name] = [None if np.isnan(v) else v for v in values.tolist()]
                case Category(field):
                    made[name] = [text or None for text in columns.texts[field]]
                case HourOfDay() | DayOfWeek():
                    made[name] = self._of_clock(feature, columns.event_times_ms)
        return made

    def _of_clock(self, feature: HourOfDay | DayOfWeek, times_ms: Any) -> list[str]:
        clock = self._clocks[feature.timezone]
        is_hour = isinstance(feature, HourOfDay)
        return list(map(str, (clock.hours if is_hour else clock.weekdays)(times_ms).tolist()))


def _batch(values: list[bytes]) -> LogBatch:
    n = len(values)
    places = np.arange(n, dtype=np.int64)
    return LogBatch("request", 0, places, np.zeros(n, np.int64), [None] * n, list(values), n)
