"""Feature records of two versions, brought together by the event that they are of.

Both features topics are read once, and their columns put down on disk in buckets of neighbouring
events. So a comparison needs the memory of two buckets, whatever the order of the records and
however often one is repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.errors import StateError
from streams.replay import offset_bounds, read_ranges
from streams.stream import EventStream, LabelStream
from streams.topics import Topics

BUCKET_OFFSETS = 1 << 17

Bucket = tuple[int, int]
"""Events partition, and number of its stretch of :data:`BUCKET_OFFSETS` offsets."""


@dataclass(frozen=True)
class Side:
    """One of the two versions: where its records are and what they mean."""

    topics: Topics
    definition: Definition
    events: EventStream
    labels: LabelStream | None = None


@dataclass(frozen=True)
class Rows:
    """The records of a bucket, by ascending offset in the events partition, each event once."""

    offsets: NDArray[np.int64]
    table: Any  # a pyarrow.Table: event_id, then a column per feature

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets)


class SpilledSide:
    """All records of a version, on disk.

    Args:
        folder: an empty one; the caller removes it.
        side: the version.
    """

    def __init__(self, folder: Path, side: Side) -> None:
        self._folder = folder
        self._side = side
        self._reader = _RecordReader(side)
        self.records = 0
        self.buckets: set[Bucket] = set()
        self._first: dict[int, int] = defaultdict(lambda: 1 << 62)
        self._end: dict[int, int] = defaultdict(int)

    def read(self, bootstrap: str) -> Iterator[int]:
        """Read the topic as it stands now; yields how many records each batch had.

        Raises:
            BrokerError: the topic can't be read.
            StateError: a record there is no feature record of the version.
        """
        topic = self._side.topics.features
        bounds = offset_bounds(bootstrap, topic, self._side.events.partitions)
        for batch in read_ranges(bootstrap, topic, bounds):
            self._put(*self._reader.read(batch))
            self.records += len(batch)
            yield len(batch)

    def stretch(self, partition: int) -> tuple[int, int]:
        """Return [first, end) of the events that the records of a partition are of."""
        first, end = self._first[partition], self._end[partition]
        return (first, end) if first < end else (0, 0)

    def rows(self, bucket: Bucket) -> Rows:
        """Return a bucket, repetitions left out: of each event the first record counts."""
        batches = []
        if bucket in self.buckets:
            with pa.OSFile(str(self._path(bucket))) as file:
                while file.tell() < file.size():
                    message = pa.ipc.read_message(file)
                    batches.append(pa.ipc.read_record_batch(message, self._reader.schema))
        table = pa.Table.from_batches(batches, self._reader.schema).combine_chunks()
        offsets, first = np.unique(table["offset"].to_numpy(), return_index=True)
        return Rows(offsets, table.take(pa.array(first)))

    def _put(self, partitions: NDArray[np.int64], batch: Any) -> None:
        offsets = batch["offset"].to_numpy()
        numbers = offsets // BUCKET_OFFSETS
        for partition in np.unique(partitions).tolist():
            own = partitions == partition
            self._first[partition] = min(self._first[partition], int(offsets[own].min()))
            self._end[partition] = max(self._end[partition], int(offsets[own].max()) + 1)
            for number in np.unique(numbers[own]).tolist():
                chosen = own & (numbers == number)
                part = batch if chosen.all() else batch.filter(pa.array(chosen))
                self.buckets.add((partition, number))
                with self._path((partition, number)).open("ab") as file:
                    file.write(part.serialize())

    def _path(self, bucket: Bucket) -> Path:
        return self._folder / f"{bucket[0]}-{bucket[1]}"


class _RecordReader:
    """Decodes batches of a features topic to columns."""

    def __init__(self, side: Side) -> None:
        definition = side.definition
        self._codec = FeatureCodec(definition, side.events, side.labels)
        self._version = definition.version
        self._numeric = definition.names("numeric")
        self._category = definition.names("category")
        self._place = "origin" if len(definition.keys(side.events, side.labels)) > 1 else "source"
        kinds = {name: pa.float64() for name in self._numeric}
        kinds |= {name: pa.string() for name in self._category}
        names = list(definition.features)
        self.schema = pa.schema(
            [("offset", pa.int64()), ("event_id", pa.string()), *((n, kinds[n]) for n in names)]
        )
        self._names = names
        place = pa.struct([("partition", pa.int64()), ("offset", pa.int64())])
        self._parse = pj.ParseOptions(
            explicit_schema=pa.schema(
                [
                    ("event_id", pa.string()),
                    ("definition", pa.int64()),
                    (self._place, place),
                    ("features", pa.struct([(n, kinds[n]) for n in names])),
                ]
            ),
            unexpected_field_behavior="ignore",
        )

    def read(self, batch: LogBatch) -> tuple[NDArray[np.int64], Any]:
        """Return the events' partitions (n,), and the columns: offset, event_id, features."""
        found = self._quickly(batch)
        return found if found is not None else self._strictly(batch)

    def _quickly(self, batch: LogBatch) -> tuple[NDArray[np.int64], Any] | None:
        """Return what Arrow reads; None where a record is not an ordinary one."""
        try:
            lines = b"\n".join(batch.values)  # type: ignore[arg-type]
            options = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
            table = pj.read_json(pa.BufferReader(lines), options, self._parse)
            table.validate(full=True)
        except (TypeError, pa.ArrowException):
            return None
        if table.num_rows != len(batch):
            return None
        column = {name: table[name].combine_chunks() for name in table.column_names}
        place = column[self._place]
        partition, offset = place.field("partition"), place.field("offset")
        version = column["definition"]
        needed = [column["event_id"], version, place, partition, offset, column["features"]]
        if any(array.null_count for array in needed):
            return None
        if (version.to_numpy() != self._version).any():
            return None
        features = [column["features"].field(name) for name in self._names]
        columns = [offset, column["event_id"], *features]
        return partition.to_numpy(), pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _strictly(self, batch: LogBatch) -> tuple[NDArray[np.int64], Any]:
        """Return the same by the codec, which names what is wrong."""
        rows = self._codec.decode(batch)
        numeric, category = iter(rows.numeric.T), iter(rows.categories)
        is_number = set(self._numeric)
        features = [
            pa.array(next(numeric), from_pandas=True) if name in is_number else next(category)
            for name in self._names
        ]
        partitions = np.full(len(rows), batch.partition, dtype=np.int64)
        offsets = rows.source_offsets
        if self._place == "origin":
            if rows.origin_partitions is None or rows.origin_offsets is None:
                raise StateError(f"{batch.topic}: feature records without their origin")
            partitions, offsets = rows.origin_partitions, rows.origin_offsets
        columns = [offsets, rows.event_ids, *features]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)]
        return partitions, pa.RecordBatch.from_arrays(arrays, schema=self.schema)
