"""Re-keyed events: what one stage hands to the next, by way of a topic keyed by the next's key.

A value is ``{"event": <the event's JSON>, "features": {name: number | null}, "labels": offset,
"origin": {"partition", "offset"}}``, keys in this order: the event as it stands in the events
topic (but for line breaks between its tokens), the windowed features that the earlier stages made,
and the event's position in the events topic. ``"labels"`` stands there only if an earlier stage
read the labels. The same rows give the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.engine.columns import EventColumns, EventDecoder
from features.records import FeatureRows
from features.staging import earlier_features, label_stage
from streams.batch import LogBatch
from streams.dead_letters import DeadLetter
from streams.errors import StateError
from streams.stream import EventStream, LabelStream
from streams.wire import Source


class RekeyedCodec:
    """JSON of the re-keyed topic that stage ``stage`` reads, and the stage before it writes."""

    def __init__(
        self, definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
    ) -> None:
        names = earlier_features(definition, events, labels, stage)
        attributes = [f"f{i}" for i in range(len(names))]
        self._features = msgspec.defstruct(
            "Features",
            [(attribute, float | None) for attribute in attributes],
            rename=dict(zip(attributes, names, strict=True)),
            frozen=True,
            gc=False,
            forbid_unknown_fields=True,
        )
        labelled = label_stage(definition, events, labels)
        self.has_labels = labelled is not None and labelled < stage
        self._record = msgspec.defstruct(
            "RekeyedEvent",
            [
                ("event", msgspec.Raw),
                ("features", self._features),
                *([("labels", int)] if self.has_labels else []),
                ("origin", Source),
            ],
            frozen=True,
            forbid_unknown_fields=True,
        )
        self._encoder = msgspec.json.Encoder()
        self._decode_one = msgspec.json.Decoder(self._record).decode

    def encode(self, rows: FeatureRows, events: Sequence[bytes]) -> list[bytes]:
        """Return the values of ``rows``, whose events' JSON is ``events``, of the same length."""
        n = len(rows)
        origins = map(Source, *_origins(rows))
        columns: list[list[float]] = rows.numeric.T.tolist()
        features: Iterable[Any] = (
            map(self._features, *columns) if columns else repeat(self._features(), n)
        )
        raw = map(msgspec.Raw, events)
        if not self.has_labels:
            records = map(self._record, raw, features, origins)
        elif rows.label_offsets is None:
            raise TypeError("the definition reads labels, and these rows say not up to where")
        else:
            records = map(self._record, raw, features, rows.label_offsets.tolist(), origins)
        lines = self._encoder.encode_lines(list(records)).split(b"\n")
        if len(lines) == n + 1:
            return lines[:n]
        # JSON has line breaks between tokens only; in a text they are escaped.
        return self.encode(rows, [event.replace(b"\n", b" ") for event in events])

    def decode(self, batch: LogBatch) -> list[Any]:
        """Return the records: with ``event``, ``features``, ``origin``, and ``labels`` if any.

        Raises:
            StateError: one is no re-keyed event of this definition.
        """
        decode, at = self._decode_one, 0
        records: list[Any] = []
        try:
            for at, value in enumerate(batch.values):  # noqa: B007 - named in the error
                records.append(decode(value))  # type: ignore[arg-type]
        except (ValueError, TypeError, RecursionError) as error:
            raise StateError(
                f"{batch.topic}, partition {batch.partition}, offset {int(batch.offsets[at])} is "
                f"no re-keyed event of this definition: {error}; another program wrote to the "
                "topic, or the definition changed without a new version"
            ) from error
        return records

    def earlier(self, records: Sequence[Any]) -> NDArray[np.float64]:
        """Return the features that earlier stages made, shape (n, features); NaN for missing."""
        features = list(map(attrgetter("features"), records))
        names = self._features.__struct_fields__
        matrix = np.empty((len(records), len(names)), dtype=np.float64)
        for i, name in enumerate(names):
            matrix[:, i] = list(map(attrgetter(name), features))
        return matrix


class RekeyedDecoder:
    """Makes columns of the re-keyed events that a stage reads; keeps no state.

    A dead letter (an event that an earlier stage could use and this one can't, since it needs more
    of it) names its place in the re-keyed topic; :func:`at_origin` says where the event stands.
    """

    def __init__(
        self, definition: Definition, events: EventStream, labels: LabelStream | None, stage: int
    ) -> None:
        self._codec = RekeyedCodec(definition, events, labels, stage)
        self._events = EventDecoder(definition, events, labels, stage)

    def decode(self, batch: LogBatch) -> tuple[EventColumns, list[DeadLetter]]:
        """Return the events as columns, and a dead letter for each that can't be used."""
        records = self._codec.decode(batch)
        values: list[bytes | None] = [*map(bytes, map(attrgetter("event"), records))]
        columns, dead = self._events.decode(replace(batch, values=values))
        rows = columns.rows
        return (
            replace(
                columns,
                earlier=self._codec.earlier(records)[rows],
                origin_partitions=_ints("origin.partition", records)[rows],
                origin_offsets=_ints("origin.offset", records)[rows],
                label_offsets=_ints("labels", records)[rows] if self._codec.has_labels else None,
            ),
            dead,
        )


class _Carried(msgspec.Struct):
    event: msgspec.Raw
    origin: Source


_carried = msgspec.json.Decoder(_Carried).decode


def raw_events(values: Sequence[bytes | None], stage: int) -> list[bytes]:
    """Return the events' JSON in records that a stage has read; the first reads the events."""
    if stage == 0:
        return list(values)  # type: ignore[arg-type]
    return [bytes(_carried(value).event) for value in values]  # type: ignore[arg-type]


def at_origin(dead: Sequence[DeadLetter], batch: LogBatch, topic: str) -> list[DeadLetter]:
    """Return dead letters of re-keyed events as such of the events topic ``topic``.

    ``batch`` is what they were found in.
    """
    found: list[DeadLetter] = []
    for letter in dead:
        value = batch.values[int(np.searchsorted(batch.offsets, letter.offset))]
        origin = _carried(value).origin  # type: ignore[arg-type]
        found.append(replace(letter, topic=topic, partition=origin.partition, offset=origin.offset))
    return found


def _origins(rows: FeatureRows) -> tuple[Iterable[int], Iterable[int]]:
    """Return (partitions, offsets) of the rows' events in the events topic."""
    if rows.origin_partitions is None or rows.origin_offsets is None:
        return repeat(rows.partition), rows.source_offsets.tolist()
    return rows.origin_partitions.tolist(), rows.origin_offsets.tolist()


def _ints(name: str, records: Sequence[Any]) -> NDArray[np.int64]:
    return np.array(list(map(attrgetter(name), records)), np.int64)
