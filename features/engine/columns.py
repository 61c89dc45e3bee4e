"""The typed columns that the engine takes of events and labels, and how they are decoded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from features.aggregations import Remembering, Windowed
from features.definition import Category, Definition, Number
from features.engine.calendar import EARLIEST_MS, LATEST_MS
from features.engine.decoding import decode_batch, take
from features.engine.identities import hashes
from features.engine.inputs import Text, number_of, text_of
from features.staging import stage_features
from streams.batch import LogBatch
from streams.dead_letters import DeadLetter
from streams.expressions import Above, Below, Equals, Expression, OneOf, Value
from streams.stream import EventStream, LabelStream

Texts = Callable[[list[Any]], list[str]]

NO_TEXT = 0
"""Hash of a text that is missing or does not count."""


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The usable events of a batch in log order; n events, all sequences of length n.

    ``rows`` (n,) are their places in the batch, ``numbers`` (n, expressions) the values of the
    decoder's expressions with NaN for missing, ``hashes`` (n, texts) those of its hashed texts
    with NO_TEXT for missing, ``texts`` field → one text per event with ``""`` for missing.
    ``entities`` are of the stream's own key; those of another stage's key stand in ``texts``.

    A re-keyed record brings along what stood in it: ``earlier`` (n, features of earlier stages),
    its event's position in the events topic, and the label offset an earlier stage had seen.
    """

    rows: NDArray[np.int64]
    event_ids: list[str]
    entities: list[str]
    event_times_ms: NDArray[np.int64]
    numbers: NDArray[np.float64]
    texts: dict[str, list[str]]
    hashes: NDArray[np.int64]
    earlier: NDArray[np.float64] | None = None
    origin_partitions: NDArray[np.int64] | None = None
    origin_offsets: NDArray[np.int64] | None = None
    label_offsets: NDArray[np.int64] | None = None

    def only(self, wanted: NDArray[np.bool_]) -> "EventColumns":
        """Return the events where ``wanted``, shape (n,), is true."""
        places = np.flatnonzero(wanted).tolist()
        made: dict[str, Any] = {}
        for name in (column.name for column in fields(self)):
            values = getattr(self, name)
            if isinstance(values, np.ndarray):
                made[name] = values[wanted]
            elif isinstance(values, dict):
                made[name] = {key: take(texts, places) for key, texts in values.items()}
            else:
                made[name] = values if values is None else take(values, places)
        return EventColumns(**made)

    def between(self, first: int, end: int) -> "EventColumns":
        """Return events [first, end)."""
        part = slice(first, end)
        made: dict[str, Any] = {}
        for name in (column.name for column in fields(self)):
            values = getattr(self, name)
            if isinstance(values, dict):
                made[name] = {key: texts[part] for key, texts in values.items()}
            else:
                made[name] = None if values is None else values[part]
        return EventColumns(**made)


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """The usable labels of a batch in log order; all sequences of length n.

    ``offsets`` (n,) are their places in the log, ``times_ms`` (n,) the times of what they are
    about, ``known_ms`` (n,) those of their own; the others are as in :class:`EventColumns`.
    """

    offsets: NDArray[np.int64]
    ids: list[str]
    entities: list[str]
    times_ms: NDArray[np.int64]
    known_ms: NDArray[np.int64]
    numbers: NDArray[np.float64]
    hashes: NDArray[np.int64]

    def only(self, wanted: NDArray[np.bool_]) -> "LabelColumns":
        """Return the labels where ``wanted``, shape (n,), is true."""
        places = np.flatnonzero(wanted).tolist()
        return LabelColumns(
            offsets=self.offsets[wanted],
            ids=take(self.ids, places),
            entities=take(self.entities, places),
            times_ms=self.times_ms[wanted],
            known_ms=self.known_ms[wanted],
            numbers=self.numbers[wanted],
            hashes=self.hashes[wanted],
        )

    def between(self, first: int, end: int) -> "LabelColumns":
        """Return labels [first, end)."""
        part = slice(first, end)
        return LabelColumns(**{f.name: getattr(self, f.name)[part] for f in fields(self)})


@dataclass(frozen=True)
class Wanted:
    """The columns that some features need: numbers by expression, hashed texts by field."""

    expressions: list[Expression]
    texts: list[Text]
    never_missing: set[Expression] = field(default_factory=set)


class Decoder(Protocol):
    """Makes columns of a stage's records."""

    def decode(self, batch: LogBatch) -> tuple[EventColumns, list[DeadLetter]]:
        """Return the usable events as columns, and a dead letter for each of the others."""
        ...


class EventDecoder:
    """Decodes the events that one stage of a definition reads; keeps no state."""

    def __init__(
        self,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None = None,
        stage: int = 0,
    ) -> None:
        definition.check_against(events, labels)
        keys = definition.keys(events, labels)
        is_last = stage == len(keys) - 1
        self.wanted = event_columns(definition, events, labels, stage)
        self._events = events
        self._values = _Values(events.type, self.wanted)
        self._decode = msgspec.json.Decoder(events.type).decode
        types = self._values.types
        names = [key for key in keys[stage : stage + 2] if key != events.entity]
        if is_last:
            declared = definition.features.values()
            names += [f.field for f in declared if isinstance(f, Category)]
            names += definition.groups
        self._texts: dict[str, Texts] = {name: _texts_of(types[name]) for name in names}
        self._id_texts = _texts_of(types[events.id])
        self._entity_texts = _texts_of(types[events.entity])

    @property
    def expressions(self) -> list[Expression]:
        """The expressions whose values are the columns of the numbers."""
        return self.wanted.expressions

    @property
    def never_missing(self) -> set[Expression]:
        """Those of them that have a value at each event."""
        return self.wanted.never_missing

    def decode(self, batch: LogBatch) -> tuple[EventColumns, list[DeadLetter]]:
        """Return the usable events as columns, and a dead letter for each of the others."""
        return decode_batch(batch, self._decode, self._columns)

    def _columns(self, rows: list[int], events: list[msgspec.Struct]) -> EventColumns:
        stream = self._events
        columns = _columns_of(events, {stream.event_time, *self._values.fields, *self._texts})
        return EventColumns(
            rows=np.fromiter(rows, np.int64, len(rows)),
            event_ids=self._id_texts(list(map(attrgetter(stream.id), events))),
            entities=self._entity_texts(list(map(attrgetter(stream.entity), events))),
            event_times_ms=_times(stream.event_time, columns[stream.event_time]),
            numbers=self._values.numbers(columns, len(events)),
            texts={name: texts(columns[name]) for name, texts in self._texts.items()},
            hashes=self._values.hashes(columns, len(events)),
        )


class LabelDecoder:
    """Decodes the labels that one definition reads; keeps no state."""

    def __init__(self, definition: Definition, labels: LabelStream) -> None:
        self.wanted = label_columns(definition)
        self._labels = labels
        self._values = _Values(labels.type, self.wanted)
        self._decode = msgspec.json.Decoder(labels.type).decode
        self._about = labels.about or labels.event_time
        self._id_texts = _texts_of(self._values.types[labels.id])
        self._entity_texts = _texts_of(self._values.types[labels.entity])

    def decode(self, batch: LogBatch) -> LabelColumns:
        """Return the usable labels as columns; the monitor sees to the others."""
        return decode_batch(
            batch, self._decode, lambda rows, records: self._columns(batch, rows, records)
        )[0]

    def _columns(
        self, batch: LogBatch, rows: list[int], records: list[msgspec.Struct]
    ) -> LabelColumns:
        stream = self._labels
        columns = _columns_of(records, {self._about, stream.event_time, *self._values.fields})
        return LabelColumns(
            offsets=batch.offsets[np.array(rows, dtype=np.int64)],
            ids=self._id_texts(list(map(attrgetter(stream.id), records))),
            entities=self._entity_texts(list(map(attrgetter(stream.entity), records))),
            times_ms=_times(self._about, columns[self._about]),
            known_ms=_times(stream.event_time, columns[stream.event_time]),
            numbers=self._values.numbers(columns, len(records)),
            hashes=self._values.hashes(columns, len(records)),
        )


class _Values:
    """The wanted numbers and hashes of records of one type."""

    def __init__(self, kind: type[msgspec.Struct], wanted: Wanted) -> None:
        self._wanted = wanted
        known = {info.name: info for info in inspect_struct(kind).fields}
        self.types = {name: info.type for name, info in known.items()}
        self._hashed = [_texts_of(self.types[text.field]) for text in wanted.texts]
        wanted.never_missing.update(e for e in wanted.expressions if _always_has(e, known))
        self.fields = {name for e in wanted.expressions for name in e.fields}
        for text in wanted.texts:
            self.fields |= {text.field, *(text.where.fields if text.where else ())}

    def numbers(self, columns: Mapping[str, Sequence[Any]], n: int) -> NDArray[np.float64]:
        """Return the values of the expressions, shape (n, expressions); NaN where missing."""
        numbers = np.empty((n, len(self._wanted.expressions)), dtype=np.float64)
        for i, expression in enumerate(self._wanted.expressions):
            numbers[:, i] = expression.evaluate(columns)
        numbers[~np.isfinite(numbers)] = np.nan
        return numbers

    def hashes(self, columns: Mapping[str, Sequence[Any]], n: int) -> NDArray[np.int64]:
        """Return the hashes of the texts, shape (n, texts); NO_TEXT where there is none."""
        made = np.empty((n, len(self._wanted.texts)), dtype=np.int64)
        for i, (text, texts_of) in enumerate(zip(self._wanted.texts, self._hashed, strict=True)):
            texts = texts_of(list(columns[text.field]))
            found = hashes(texts)
            found[found == NO_TEXT] = ~NO_TEXT
            found[np.fromiter(map(len, texts), np.int64, n) == 0] = NO_TEXT
            if text.where is not None:
                found[text.where.evaluate(columns) != 1.0] = NO_TEXT
            made[:, i] = found
        return made


def event_columns(
    definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
) -> Wanted:
    """Return what a stage needs of an event, each once, in the order of its first use."""
    own = stage_features(definition, events, labels, stage)
    is_last = stage == len(definition.keys(events, labels)) - 1
    used: list[Expression] = []
    for name, feature in definition.features.items():
        if name in own and not _on_labels(feature):
            number = number_of(feature)  # type: ignore[arg-type]
            used += [] if number is None else [number]
        elif is_last and isinstance(feature, Number):
            used.append(feature.of)
    remembering = [definition.features[name] for name in own]
    return Wanted(list(dict.fromkeys(used)), _texts(f for f in remembering if not _on_labels(f)))


def label_columns(definition: Definition) -> Wanted:
    """Return what is needed of a label, each once, in the order of its first use."""
    remembering = [f for f in definition.features.values() if _on_labels(f)]
    numbers = [number_of(f) for f in remembering if isinstance(f, Remembering)]
    return Wanted(list(dict.fromkeys(n for n in numbers if n is not None)), _texts(remembering))


def _on_labels(feature: object) -> bool:
    return isinstance(feature, Windowed) and feature.on == "labels"


def _texts(features: Iterable[object]) -> list[Text]:
    found = [text_of(f) for f in features if isinstance(f, Remembering)]
    return list(dict.fromkeys(text for text in found if text is not None))


def inspect_struct(struct: type[msgspec.Struct]) -> inspect.StructType:
    """Return what msgspec knows of a struct type and its fields."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct!r} is no msgspec.Struct")
    return info


def _columns_of(records: list[msgspec.Struct], names: Iterable[str]) -> dict[str, list[Any]]:
    return {name: list(map(attrgetter(name), records)) for name in names}


def _times(name: str, values: list[int]) -> NDArray[np.int64]:
    times_ms = np.fromiter(values, np.int64, len(values))
    if len(times_ms) and (times_ms.min() < EARLIEST_MS or times_ms.max() >= LATEST_MS):
        raise ValueError(
            f"{name} lies outside the years 1 to 9999: it must be milliseconds since the epoch"
        )
    return times_ms


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
    info = known[expression.field]
    kind = info.type
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    number = (inspect.IntType, inspect.FloatType, inspect.BoolType)
    return info.required and all(
        isinstance(part, number) or (isinstance(expression, Equals | OneOf) and _is_text(part))
        for part in parts
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    plain = msgspec.to_builtins(value)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
