"""From the bytes of a log batch to typed columns; what can't be used becomes a dead letter."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from features.aggregations import Mean, Sum
from features.calendar import EARLIEST_MS, LATEST_MS
from features.definition import Category, Definition, Number
from streams.batch import LogBatch
from streams.dead_letters import DECODE_ERROR, NULL_VALUE, VALIDATION_ERROR, DeadLetter
from streams.expressions import Above, Below, Equals, Expression, OneOf, Value
from streams.stream import EventStream

_UNUSABLE = (ValueError, TypeError, OverflowError, RecursionError)

Texts = Callable[[list[Any]], list[str]]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The usable events of a batch in log order; n events, all sequences of length n.

    ``rows`` (n,) are their places in the batch, ``numbers`` (n, expressions) the values of the
    decoder's expressions with NaN for missing, ``texts`` field → one text per event with ``""``
    for missing.
    """

    rows: NDArray[np.int64]
    event_ids: list[str]
    entities: list[str]
    event_times_ms: NDArray[np.int64]
    numbers: NDArray[np.float64]
    texts: dict[str, list[str]]

    def only(self, wanted: NDArray[np.bool_]) -> "EventColumns":
        """Return the events where ``wanted``, shape (n,), is true."""
        places = np.flatnonzero(wanted).tolist()
        return EventColumns(
            rows=self.rows[wanted],
            event_ids=take(self.event_ids, places),
            entities=take(self.entities, places),
            event_times_ms=self.event_times_ms[wanted],
            numbers=self.numbers[wanted],
            texts={name: take(texts, places) for name, texts in self.texts.items()},
        )


class EventDecoder:
    """Decodes the events that one definition reads; keeps no state."""

    def __init__(self, definition: Definition, events: EventStream) -> None:
        definition.check_against(events)
        self.expressions = expressions_of(definition)
        self._events = events
        self._decode = msgspec.json.Decoder(events.type).decode
        known = {field.name: field for field in inspect_struct(events.type).fields}
        types = {name: field.type for name, field in known.items()}
        self.never_missing = {e for e in self.expressions if _always_has(e, known)}
        fields = [
            *(f.field for f in definition.features.values() if isinstance(f, Category)),
            *definition.groups,
        ]
        self._texts: dict[str, Texts] = {name: _texts_of(types[name]) for name in fields}
        self._id_texts = _texts_of(types[events.id])
        self._entity_texts = _texts_of(types[events.entity])

    def decode(self, batch: LogBatch) -> tuple[EventColumns, list[DeadLetter]]:
        """Return the usable events as columns, and a dead letter for each of the others."""
        dead: list[DeadLetter] = []
        rows = list(range(len(batch)))
        try:
            events = [self._decode(value) for value in batch.values]  # type: ignore[arg-type]
        except _UNUSABLE:
            rows, events = self._decode_singly(batch, dead)
        try:
            return self._columns(rows, events), dead
        except _UNUSABLE:
            places = self._sift(batch, rows, events, range(len(rows)), dead)
            return self._columns(take(rows, places), take(events, places)), dead

    def _decode_singly(
        self, batch: LogBatch, dead: list[DeadLetter]
    ) -> tuple[list[int], list[msgspec.Struct]]:
        """Return (places in the batch, events) of what is an event; the others join ``dead``."""
        rows: list[int] = []
        events: list[msgspec.Struct] = []
        for row, value in enumerate(batch.values):
            if value is None:
                dead.append(dead_letter(batch, row, NULL_VALUE, "the record has no value"))
                continue
            try:
                events.append(self._decode(value))
            except msgspec.ValidationError as error:
                dead.append(dead_letter(batch, row, VALIDATION_ERROR, str(error)))
            except _UNUSABLE as error:
                dead.append(dead_letter(batch, row, DECODE_ERROR, str(error)))
            else:
                rows.append(row)
        return rows, events

    def _sift(
        self,
        batch: LogBatch,
        rows: list[int],
        events: list[msgspec.Struct],
        places: range,
        dead: list[DeadLetter],
    ) -> list[int]:
        """Return those of ``places`` whose events have usable values, by halving; rest: dead."""
        if not places:
            return []
        try:
            self._columns(rows[places.start : places.stop], events[places.start : places.stop])
        except _UNUSABLE as error:
            if len(places) == 1:
                row = rows[places.start]
                dead.append(dead_letter(batch, row, VALIDATION_ERROR, str(error)))
                return []
            middle = len(places) // 2
            halves = places[:middle], places[middle:]
            return [p for half in halves for p in self._sift(batch, rows, events, half, dead)]
        return list(places)

    def _columns(self, rows: list[int], events: list[msgspec.Struct]) -> EventColumns:
        """Return the columns; raises one of _UNUSABLE where an event's values can't be used."""
        fields = {
            self._events.event_time,
            *(field for expression in self.expressions for field in expression.fields),
            *self._texts,
        }
        columns = {name: list(map(attrgetter(name), events)) for name in fields}
        times_ms = np.array(columns[self._events.event_time], dtype=np.int64)
        _check_times(self._events.event_time, times_ms)
        numbers = np.empty((len(events), len(self.expressions)), dtype=np.float64)
        for i, expression in enumerate(self.expressions):
            numbers[:, i] = expression.evaluate(columns)
        numbers[~np.isfinite(numbers)] = np.nan
        return EventColumns(
            rows=np.array(rows, dtype=np.int64),
            event_ids=self._id_texts(list(map(attrgetter(self._events.id), events))),
            entities=self._entity_texts(list(map(attrgetter(self._events.entity), events))),
            event_times_ms=times_ms,
            numbers=numbers,
            texts={name: texts(columns[name]) for name, texts in self._texts.items()},
        )


def expressions_of(definition: Definition) -> list[Expression]:
    """Return the distinct expressions of a definition, in the order of their first use."""
    used = [f.of for f in definition.features.values() if isinstance(f, Sum | Mean | Number)]
    return list(dict.fromkeys(used))


def inspect_struct(struct: type[msgspec.Struct]) -> inspect.StructType:
    """Return what msgspec knows of a struct type and its fields."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct!r} is no msgspec.Struct")
    return info


def _check_times(field: str, times_ms: NDArray[np.int64]) -> None:
    if len(times_ms) and (times_ms.min() < EARLIEST_MS or times_ms.max() >= LATEST_MS):
        raise ValueError(
            f"{field} lies outside the years 1 to 9999: it must be milliseconds since the epoch"
        )


def _texts_of(kind: inspect.Type) -> Texts:
    """Return how values of a type become texts: as JSON writes them, without quotes."""
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    if all(_is_text(part) for part in parts):
        return lambda values: values
    if all(isinstance(part, inspect.IntType) for part in parts):
        return lambda values: list(map(str, values))
    return lambda values: list(map(_text, values))


def _is_text(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return all(isinstance(value, str) for value in kind.values)
    return isinstance(kind, inspect.StrType)


def _always_has(expression: Expression, known: Mapping[str, inspect.Field]) -> bool:
    """Return whether each usable event has a value for the expression."""
    if not isinstance(expression, Value | Above | Below | Equals | OneOf):
        return False
    field = known[expression.field]
    kind = field.type
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    number = (inspect.IntType, inspect.FloatType, inspect.BoolType)
    return field.required and all(
        isinstance(part, number) or (isinstance(expression, Equals | OneOf) and _is_text(part))
        for part in parts
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    plain = msgspec.to_builtins(value)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def dead_letter(batch: LogBatch, row: int, error: str, reason: str) -> DeadLetter:
    """Return the dead letter of the record at place ``row`` of a batch."""
    return DeadLetter(
        error=error,
        reason=reason,
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        key=batch.keys[row],
        value=batch.values[row],
        timestamp_ms=int(batch.timestamps_ms[row]),
    )


def take(values: list[Any], rows: Iterable[int]) -> list[Any]:
    """Return the values at some places."""
    return list(map(values.__getitem__, rows))
