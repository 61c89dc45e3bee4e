"""The log as columns: how records of the features and labels topics become Arrow tables.

Feature table: ``offset`` (of the feature record), ``partition``, ``source_offset``, ``event_id``,
``entity``, ``event_time_ms``, then ``f.<name>`` (float64, NaN = missing) per numeric feature,
``c.<name>`` and ``g.<name>`` (text, "" = missing) per category feature and group.

Label table: ``offset``, ``partition``, ``valid``, ``event_id``, ``event_time_ms``, ``target``
(a number: :class:`training.targets.Targets`). A record that nobody can use keeps its row with
``valid`` false, so that it is counted by whoever reads the range, however often.
"""

import hashlib
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.stream import EventStream, LabelStream
from training.dataset.arrow_json import ArrowFeatureReader
from training.networks.tasks import Binary, Task, task_to_json
from training.targets import Targets

_BINARY = Binary()


class LogDecoder(Protocol):
    """Turns batches of one topic into columns; ``hash`` covers all that decides the result."""

    topic: str
    hash: str
    schema: pa.Schema

    def decode(self, batch: LogBatch) -> pa.RecordBatch:
        """Return one row per record, in log order, with the columns of ``schema``."""
        ...


class FeatureDecoder:
    """The features topic of one definition; raises StateError on foreign records."""

    def __init__(
        self,
        topic: str,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None = None,
    ) -> None:
        self.topic = topic
        self.hash = definition.hash(events, labels)
        numeric, texts = definition.names("numeric"), definition.names("category")
        self.schema = pa.schema(
            [
                ("offset", pa.int64()),
                ("partition", pa.int32()),
                ("source_offset", pa.int64()),
                ("event_id", pa.string()),
                ("entity", pa.string()),
                ("event_time_ms", pa.int64()),
                *((f"f.{name}", pa.float64()) for name in numeric),
                *((f"c.{name}", pa.string()) for name in texts),
                *((f"g.{name}", pa.string()) for name in definition.groups),
            ]
        )
        self._reader = ArrowFeatureReader(definition, events, labels)
        self._codec = FeatureCodec(definition, events, labels)

    def decode(self, batch: LogBatch) -> pa.RecordBatch:
        """Return the columns of a batch of feature records."""
        columns = self._reader.read(batch) or self._decode_one_by_one(batch)
        return _record_batch([batch.offsets, _partition_column(batch), *columns], self.schema)

    def _decode_one_by_one(self, batch: LogBatch) -> list[Any]:
        rows = self._codec.decode(batch)
        return [
            rows.source_offsets,
            rows.event_ids,
            rows.entities,
            rows.event_times_ms,
            *np.ascontiguousarray(rows.numeric.T),
            *rows.categories,
            *rows.groups,
        ]


class LabelDecoder:
    """The labels topic; undecodable or unusable labels become rows that are not valid.

    Usable is what ``task`` can learn from; the target of a class is its number.
    """

    def __init__(self, topic: str, labels: LabelStream, task: Task = _BINARY) -> None:
        self.topic = topic
        self.schema = pa.schema(
            [
                ("offset", pa.int64()),
                ("partition", pa.int32()),
                ("valid", pa.bool_()),
                ("event_id", pa.string()),
                ("event_time_ms", pa.int64()),
                ("target", pa.float64()),
            ]
        )
        target = labels.target
        content: dict[str, Any] = {
            "type": msgspec.json.schema(labels.type),
            "fields": [labels.id, labels.event_time, type(target).__name__, str(target)],
        }
        if task != _BINARY:
            content["task"] = task_to_json(task)
        self.hash = hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
        self._decode_one = msgspec.json.Decoder(labels.type).decode
        self._targets = Targets(task, target)
        self._id = attrgetter(labels.id)
        self._time = attrgetter(labels.event_time)

    def decode(self, batch: LogBatch) -> pa.RecordBatch:
        """Return the columns of a batch of labels; a bad one costs only itself."""
        records, good = self._decode_all(batch.values)
        targets = np.full(len(batch), np.nan)
        targets[good] = self._targets.of(records)
        times = np.zeros(len(batch), dtype=np.int64)
        times[good] = np.fromiter(map(self._time, records), np.int64, len(records))
        ids = np.full(len(batch), None, dtype=object)
        ids[good] = list(map(str, map(self._id, records)))
        valid = good & self._targets.usable(targets)
        columns = [batch.offsets, _partition_column(batch), valid, ids, times, targets]
        return _record_batch(columns, self.schema)

    def _decode_all(self, values: list[bytes | None]) -> tuple[list[Any], NDArray[np.bool_]]:
        """Return the decodable records and which of ``values`` they are."""
        try:
            return [self._decode_one(v) for v in values], np.ones(len(values), dtype=bool)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
            decoded = [self._decode_or_none(value) for value in values]
            good = np.array([record is not None for record in decoded], dtype=bool)
            return [record for record in decoded if record is not None], good

    def _decode_or_none(self, value: bytes | None) -> msgspec.Struct | None:
        if value is None:
            return None
        try:
            return self._decode_one(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None


def _partition_column(batch: LogBatch) -> NDArray[np.int32]:
    return np.full(len(batch), batch.partition, dtype=np.int32)


def _record_batch(columns: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type, from_pandas=False)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
