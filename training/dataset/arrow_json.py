"""Feature records by Arrow's own JSON reader: the quick way from the log to columns.

It is six times as quick as decoding record by record, and looser: it takes a missing number for a
null, for example. So whatever is not exactly as the feature worker writes it gives None here, and
the caller decodes with :class:`features.records.FeatureCodec`, which names what is wrong.
"""

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from features.definition import Definition
from streams.batch import LogBatch
from streams.stream import EventStream, LabelStream


class ArrowFeatureReader:
    """Reads batches of the features topic of one definition."""

    def __init__(
        self, definition: Definition, events: EventStream, labels: LabelStream | None = None
    ) -> None:
        self._version = definition.version
        self._numeric = definition.names("numeric")
        self._category = definition.names("category")
        self._groups = list(definition.groups)
        features = [
            (name, pa.float64() if name in self._numeric else pa.string())
            for name in definition.features
        ]
        place = pa.struct([("partition", pa.int64()), ("offset", pa.int64())])
        self._also = [("labels", pa.int64())] if definition.reads_labels else []
        self._also += [("origin", place)] if len(definition.keys(events, labels)) > 1 else []
        self._parse = pj.ParseOptions(
            explicit_schema=pa.schema(
                [
                    ("event_id", pa.string()),
                    ("entity", pa.string()),
                    ("event_time_ms", pa.int64()),
                    ("definition", pa.int64()),
                    ("source", place),
                    *self._also,
                    ("features", pa.struct(features)),
                    ("groups", pa.struct([(name, pa.string()) for name in self._groups])),
                ]
            ),
            unexpected_field_behavior="error",
        )

    def read(self, batch: LogBatch) -> list[pa.Array] | None:
        """Return the columns of a batch, or None where a record is not an ordinary one.

        The columns are source offsets, event ids, entities, event times, then numeric features
        (NaN = missing), category features and groups.
        """
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
        features, groups, source = column["features"], column["groups"], column["source"]
        numeric = [features.field(name) for name in self._numeric]
        whole = [
            source.field("offset"),
            column["event_id"],
            column["entity"],
            column["event_time_ms"],
        ]
        texts = [features.field(name) for name in self._category]
        texts += [groups.field(name) for name in self._groups]
        complete = [*whole, *texts, column["definition"], features, groups, source]
        for name, _ in self._also:
            complete += [column[name], *_fields(column[name])]
        if any(array.null_count for array in complete):
            return None
        if not (
            _all_equal(column["definition"], self._version)
            and _all_equal(source.field("partition"), batch.partition)
            and self._missing_are_written(lines, numeric)
        ):
            return None
        return [*whole, *(pc.fill_null(array, math.nan) for array in numeric), *texts]

    def _missing_are_written(self, lines: bytes, numeric: Sequence[pa.Array]) -> bool:
        """Return whether each null stands in a record as null, not for a feature it lacks."""
        # A quote within a JSON text is escaped, so the pattern can't occur in one.
        return all(
            lines.count(f'"{name}":null'.encode()) == array.null_count
            for name, array in zip(self._numeric, numeric, strict=True)
            if array.null_count
        )


def _fields(array: pa.Array) -> list[pa.Array]:
    return array.flatten() if pa.types.is_struct(array.type) else []


def _all_equal(array: pa.Array, value: int) -> bool:
    return bool(pc.all(pc.equal(array, value), min_count=0).as_py())
