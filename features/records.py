"""Feature records: columns in memory, plain JSON on the features topic."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from features.definition import Definition, kind_of
from streams.batch import LogBatch
from streams.errors import StateError
from streams.stream import EventStream, LabelStream

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_UNREADABLE = (ValueError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Columns of n feature records of one partition, log order; all sequences have length n.

    ``source_offsets`` (n,) are the events' offsets in the same partition of the log that the stage
    reads: the events topic, or in a pipeline of several keys the re-keyed topic of the last one.
    ``numeric`` (n, numeric features) holds NaN for missing, ``categories`` one list of n texts per
    category feature with ``""`` for missing, both in the definition's order of names;
    ``groups`` one list of n texts per group field.

    ``label_offsets`` (n,) say up to where (next offset) the labels partition had been applied; only
    where the definition reads labels. ``origin_partitions`` and ``origin_offsets`` (n,) say where
    the event stands in the events topic; only where the definition has several keys.
    """

    partition: int
    event_ids: list[str]
    entities: list[str]
    event_times_ms: NDArray[np.int64]
    source_offsets: NDArray[np.int64]
    numeric: NDArray[np.float64]
    categories: list[list[str]]
    groups: list[list[str]]
    label_offsets: NDArray[np.int64] | None = None
    origin_partitions: NDArray[np.int64] | None = None
    origin_offsets: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.event_ids)


class _Source(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    partition: int
    offset: _Int64


class FeatureCodec:
    """JSON of the features topic ↔ :class:`FeatureRows`, for one definition.

    A value is ``{"event_id", "entity", "event_time_ms", "definition", "source": {"partition",
    "offset"}, "features": {name: number | null | text}, "groups": {field: text}}``, keys in this
    order, features in the definition's; the same rows give the same bytes. After ``"source"``
    stand ``"labels": offset`` where the definition reads labels, and ``"origin": {"partition",
    "offset"}`` where it has several keys.
    """

    def __init__(
        self, definition: Definition, events: EventStream, labels: LabelStream | None = None
    ) -> None:
        definition.check_against(events, labels)
        self._version = definition.version
        self._has_labels = definition.reads_labels
        self._has_origin = len(definition.keys(events, labels)) > 1
        kinds = [kind_of(feature) for feature in definition.features.values()]
        self._is_numeric = [kind == "numeric" for kind in kinds]
        types = [float | None if numeric else str for numeric in self._is_numeric]
        self._features = _struct("Features", list(definition.features), types)
        self._groups = _struct("Groups", list(definition.groups), [str] * len(definition.groups))
        self._record = msgspec.defstruct(
            "FeatureRecord",
            [
                ("event_id", str),
                ("entity", str),
                ("event_time_ms", _Int64),
                ("definition", int),
                ("source", _Source),
                *([("labels", _Int64)] if self._has_labels else []),
                *([("origin", _Source)] if self._has_origin else []),
                ("features", self._features),
                ("groups", self._groups),
            ],
            frozen=True,
            gc=False,
            forbid_unknown_fields=True,
        )
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(self._record)

    @property
    def record_type(self) -> type[msgspec.Struct]:
        """The type of the records' values."""
        return self._record

    def encode(self, rows: FeatureRows) -> list[bytes]:
        """Return the records' values, one per row."""
        n = len(rows)
        numeric = iter(rows.numeric.T.tolist())
        categories = iter(rows.categories)
        columns = [
            next(numeric) if is_numeric else next(categories) for is_numeric in self._is_numeric
        ]
        groups = map(self._groups, *rows.groups) if rows.groups else repeat(self._groups(), n)
        records = map(
            self._record,
            rows.event_ids,
            rows.entities,
            rows.event_times_ms.tolist(),
            repeat(self._version),
            map(_Source, repeat(rows.partition), rows.source_offsets.tolist()),
            *self._read_until(rows),
            map(self._features, *columns),
            groups,
        )
        # One buffer for all is quicker than one call per record, and JSON holds no raw newline.
        return self._encoder.encode_lines(list(records)).split(b"\n")[:n]

    def _read_until(self, rows: FeatureRows) -> Iterator[Iterable[Any]]:
        """Yield the columns that only some definitions have."""
        if self._has_labels:
            yield _known(rows.label_offsets, "label offsets").tolist()
        if self._has_origin:
            partitions = _known(rows.origin_partitions, "origins")
            offsets = _known(rows.origin_offsets, "origins")
            yield map(_Source, partitions.tolist(), offsets.tolist())

    def decode(self, batch: LogBatch) -> FeatureRows:
        """Return the records of a batch of the features topic.

        Raises:
            StateError: a value is not a feature record of this definition and partition.
        """
        records = self._decode_values(batch)
        self._check(batch, records)
        columns = _columns(list(map(attrgetter("features"), records)), self._features)
        numeric = [c for c, is_numeric in zip(columns, self._is_numeric, strict=True) if is_numeric]
        matrix = np.empty((len(records), len(numeric)), dtype=np.float64)
        for i, column in enumerate(numeric):
            matrix[:, i] = column
        return FeatureRows(
            partition=batch.partition,
            event_ids=list(map(attrgetter("event_id"), records)),
            entities=list(map(attrgetter("entity"), records)),
            event_times_ms=_ints("event_time_ms", records),
            source_offsets=_ints("source.offset", records),
            numeric=matrix,
            categories=[
                c for c, is_numeric in zip(columns, self._is_numeric, strict=True) if not is_numeric
            ],
            groups=_columns(list(map(attrgetter("groups"), records)), self._groups),
            label_offsets=_ints("labels", records) if self._has_labels else None,
            origin_partitions=_ints("origin.partition", records) if self._has_origin else None,
            origin_offsets=_ints("origin.offset", records) if self._has_origin else None,
        )

    def _decode_values(self, batch: LogBatch) -> list[Any]:
        decode = self._decoder.decode
        try:
            return [decode(value) for value in batch.values]  # type: ignore[arg-type]
        except _UNREADABLE:
            for row, value in enumerate(batch.values):
                try:
                    decode(value)  # type: ignore[arg-type]
                except _UNREADABLE as error:
                    raise _foreign(batch, row, str(error)) from error
            raise

    def _check(self, batch: LogBatch, records: Sequence[Any]) -> None:
        wanted = (self._version, batch.partition)
        versions = list(map(attrgetter("definition"), records))
        partitions = list(map(attrgetter("source.partition"), records))
        if (versions.count(wanted[0]), partitions.count(wanted[1])) != (len(records),) * 2:
            found = list(zip(versions, partitions, strict=True))
            row = next(i for i, pair in enumerate(found) if pair != wanted)
            raise _foreign(
                batch,
                row,
                f"it is of definition v{found[row][0]}, events partition "
                f"{found[row][1]}; definition v{wanted[0]}, partition {wanted[1]} was expected",
            )


def _columns(records: list[msgspec.Struct], of: type[msgspec.Struct]) -> list[list[Any]]:
    """Return the columns of structs of one type: a list of n values per field."""
    if not records:
        return [[] for _ in of.__struct_fields__]
    return list(map(list, zip(*map(astuple, records), strict=True)))


def _ints(name: str, records: Sequence[Any]) -> NDArray[np.int64]:
    return np.array(list(map(attrgetter(name), records)), np.int64)


def _known(column: NDArray[np.int64] | None, what: str) -> NDArray[np.int64]:
    if column is None:
        raise TypeError(f"the definition's records carry {what}, and these rows have none")
    return column


def _struct(name: str, fields: list[str], types: list[Any]) -> type[msgspec.Struct]:
    """Return a struct whose JSON keys are ``fields``, whatever Python reserves."""
    attributes = [f"f{i}" for i in range(len(fields))]
    return msgspec.defstruct(
        name,
        list(zip(attributes, types, strict=True)),
        rename=dict(zip(attributes, fields, strict=True)),
        frozen=True,
        gc=False,
        forbid_unknown_fields=True,
    )


def _foreign(batch: LogBatch, row: int, why: str) -> StateError:
    return StateError(
        f"{batch.topic}, partition {batch.partition}, offset {int(batch.offsets[row])} is no "
        f"feature record of this pipeline: {why}; another program wrote to the topic, or the "
        "definition changed without a new version"
    )
