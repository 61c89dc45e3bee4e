"""Files of raw events: their features made by the engine, in order, or read from the online store.

By the engine: the file is all there is, so windows count what stands before the event in it, as for
a pipeline that begins with the file. From the store: windows are what the feature workers keep of
the entity now, what concerns the event itself comes from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from features.definition import Definition
from features.records import FeatureRows
from features.store.columnar import OnlineStore
from features.store.online_rows import Found, OnlineRows, RowColumns, Wanted
from serving.batch.parts import Part, Parts, Refused, Values
from serving.inference.entity_events import EntityEvents
from serving.lab.features import Chain
from serving.pipeline import Pipeline
from streams.dead_letters import DeadLetter
from streams.merging import rows_where
from streams.recording import Recording
from training.dataset.histories import Histories

_ROWS = 1000  # of one look into the store
_SHOWN = 2000  # characters of a refused record that are kept


def parts_computed(
    recordings: Iterable[Recording], pipeline: Pipeline, definition: Definition, last: int
) -> Parts:
    """Yield the events, their features computed in order of time.

    ``last`` is how many events of an entity the model sees, 0 for the one alone. Memory grows with
    the entities, as a feature worker's does. Within a stretch events come partition by partition.

    Raises:
        SourceError: (while iterating) a file can't be read.
    """
    dead: list[DeadLetter] = []
    histories = _Histories(definition, last)
    chain = Chain(pipeline, definition, dead.append)
    for recording in recordings:
        for rows in chain.take(recording):
            asked: FeatureRows | Histories = histories.of(rows) if last else rows
            yield Part(_told(rows), asked, list(map(_refused, dead)))
            dead.clear()
    if dead:
        yield Part(_nothing(), _no_values(definition), list(map(_refused, dead)))


def parts_stored(
    recordings: Iterable[Recording],
    pipeline: Pipeline,
    definition: Definition,
    store: OnlineStore,
) -> Parts:
    """Yield the events, in order of time, with the features that the online store has for them.

    Raises:
        SourceError: (while iterating) a file can't be read.
        StateError: (while iterating) the store can't be read.
    """
    online = OnlineRows(store, definition, pipeline.events, pipeline.labels, pipeline.name)
    columns, fields = RowColumns(definition), _Fields(pipeline, definition)
    for recording in recordings:
        values = rows_where(recording, ~recording.is_label).values
        for start in range(0, len(values), _ROWS):
            refused: list[Refused] = []
            known: list[tuple[_Event, Found]] = []
            events = [fields.of(value, refused) for value in values[start : start + _ROWS]]
            usable = [event for event in events if event is not None]
            for event, found in zip(usable, online.read([e.wanted for e in usable]), strict=True):
                if found.refused is not None:
                    refused.append(Refused(None, found.refused, event.shown))
                else:
                    known.append((event, found))
            rows = [found.values for _, found in known]
            asked = Values(columns.numbers(rows), columns.texts(rows))
            yield Part(_table([event for event, _ in known]), asked, refused)


class _Event:
    """An event as it stands in the file."""

    def __init__(self, name: str, entity: str, wanted: Wanted, shown: str) -> None:
        self.name, self.entity, self.wanted, self.shown = name, entity, wanted, shown


class _Fields:
    """Reads what the store has to be asked for out of an event's JSON."""

    def __init__(self, pipeline: Pipeline, definition: Definition) -> None:
        events = pipeline.events
        self._keys = definition.keys(events, pipeline.labels)
        names = {f.name: f.encode_name for f in msgspec.structs.fields(events.type)}
        self._names = names
        self._id, self._entity, self._time = events.id, events.entity, events.event_time

    def of(self, value: bytes, refused: list[Refused]) -> _Event | None:
        shown = value.decode(errors="replace")[:_SHOWN]
        try:
            fields: dict[str, Any] = msgspec.json.decode(value, type=dict[str, Any])
            given = {own: fields[name] for own, name in self._names.items() if name in fields}
            time_ms = given[self._time]
            if type(time_ms) is not int:
                raise TypeError(f"{self._time} is {time_ms!r}, no whole number of milliseconds")
            keys = {key: str(given[key]) for key in self._keys if given.get(key) is not None}
            entity, name = keys[self._entity], str(given[self._id])
        except (msgspec.DecodeError, RecursionError, TypeError) as error:
            refused.append(Refused(None, str(error), shown))
            return None
        except KeyError as error:
            refused.append(Refused(None, f"the event lacks {error}", shown))
            return None
        return _Event(name, entity, Wanted(keys, time_ms, given), shown)


class _Histories:
    """The last events of entities, partition by partition."""

    def __init__(self, definition: Definition, last: int) -> None:
        self._numeric = len(definition.names("numeric"))
        self._categories = len(definition.names("category"))
        self._last = last
        self._known: dict[int, EntityEvents] = {}

    def of(self, rows: FeatureRows) -> Histories:
        kept = self._known.get(rows.partition)
        if kept is None:
            kept = EntityEvents(self._numeric, self._categories, self._last)
            self._known[rows.partition] = kept
        looked = kept.look(rows)
        kept.confirm(looked, int(rows.source_offsets[-1]) + 1 if len(rows) else kept.next_offset)
        return kept.histories(looked.rows, self._last)


def _told(rows: FeatureRows) -> pa.Table:
    return pa.table(
        {
            "event_id": pa.array(rows.event_ids, pa.string()),
            "entity": pa.array(rows.entities, pa.string()),
            "event_time_ms": pa.array(rows.event_times_ms, pa.int64()),
        }
    )


def _table(events: list[_Event]) -> pa.Table:
    return pa.table(
        {
            "event_id": pa.array([event.name for event in events], pa.string()),
            "entity": pa.array([event.entity for event in events], pa.string()),
            "event_time_ms": pa.array([event.wanted.at_ms for event in events], pa.int64()),
        }
    )


def _nothing() -> pa.Table:
    return _table([])


def _no_values(definition: Definition) -> Values:
    numeric = np.empty((0, len(definition.names("numeric"))))
    return Values(numeric, [[] for _ in definition.names("category")])


def _refused(dead: DeadLetter) -> Refused:
    shown = (dead.value or b"").decode(errors="replace")[:_SHOWN]
    return Refused(None, f"{dead.error}: {dead.reason}", shown)
