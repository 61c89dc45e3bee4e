"""The reader for any pipeline: files whose columns or fields are those of the record's type.

CSV (also in a gzip or zip), JSON lines and Parquet. Rows become records in the order of time;
a row that does not fit the type is carried along, with null for what is missing or unreadable,
and costs only itself.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import inspect
from numpy.typing import NDArray

from streams.files import CSV, JSON_LINES, PARQUET, find_files, has_suffix
from streams.json_lines import read_json_lines
from streams.merging import concatenate, in_order, merge
from streams.recording import Reader, Recording
from streams.rows import optional_ints, record_times, recording_of, torn_recording
from streams.stream import EventStream, LabelStream
from streams.tables import Kind, plain_values, read_tables, times_ms

Stream = EventStream | LabelStream

_KINDS: dict[type[inspect.Type], Kind] = {
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.BoolType: "bool",
}


def open_source(
    events: EventStream,
    labels: LabelStream,
    read: Reader | None,
    files: Sequence[Path],
    labels_files: Sequence[Path] = (),
) -> Iterator[Recording]:
    """Yield everything in ``files`` and ``labels_files`` in one order of time.

    Args:
        events: types and roles of the fields of events.
        labels: types and roles of the fields of labels.
        read: the pipeline's own reader of ``files``, or None where their columns are the fields
            of the event type.
        files: files or folders.
        labels_files: files or folders whose columns are the fields of the label type.

    Raises:
        SourceError: a file can't be read.
    """
    streams = [read(path) if read else read_files(path, events) for path in files]
    streams += [read_files(path, labels) for path in labels_files]
    return merge(streams)


def read_files(path: Path, stream: Stream) -> Iterator[Recording]:
    """Yield the rows of a file, or of all readable files of a folder, as records of ``stream``.

    Files that are in order of time are read in pieces; one that is not is sorted, which takes
    memory for all of it.

    Raises:
        SourceError: a file can't be read, is empty, or lacks a column that the type requires.
    """
    files = find_files(path, (*CSV, *JSON_LINES, *PARQUET))
    return merge([_in_order(file, stream) for file in files])


def _in_order(file: Path, stream: Stream) -> Iterator[Recording]:
    if _is_in_order(file, stream):
        yield from _pieces(file, stream)
    else:
        yield in_order(concatenate(list(_pieces(file, stream))))


def _is_in_order(file: Path, stream: Stream) -> bool:
    reach_ms: int | None = None
    for times in _piece_times(file, stream):
        if reach_ms is not None and int(times[0]) < reach_ms:
            return False
        if bool((times[1:] < times[:-1]).any()):
            return False
        reach_ms = int(times[-1])
    return True


def _piece_times(file: Path, stream: Stream) -> Iterator[NDArray[np.int64]]:
    if has_suffix(file, JSON_LINES):
        for recording in _pieces(file, stream):
            yield recording.timestamps_ms
        return
    before_ms: int | None = None
    name = _encoded_names(stream)[stream.event_time]
    for table in read_tables(file, [name], [], []):
        times = record_times(*times_ms(table[name]), before_ms)
        before_ms = int(times[-1])
        yield times


def _pieces(file: Path, stream: Stream) -> Iterator[Recording]:
    """Yield the file in its own order."""
    is_label = isinstance(stream, LabelStream)
    names = _encoded_names(stream)
    if has_suffix(file, JSON_LINES):
        required = [names[stream.id], names[stream.entity], names[stream.event_time]]
        yield from read_json_lines(file, required[1], required[2], required, is_label)
        return
    kinds = _field_kinds(stream)
    required, optional = _split_required(stream)
    torn: list[str] = []
    before_ms: int | None = None
    for table in read_tables(file, required, optional, torn):
        recording = _rows(table, stream, kinds, before_ms)
        before_ms = int(recording.timestamps_ms[-1])
        yield recording
    if torn:
        yield torn_recording(torn, is_label, before_ms or 0)


def _rows(
    table: pa.Table, stream: Stream, kinds: dict[str, Kind], before_ms: int | None
) -> Recording:
    names = _encoded_names(stream)
    time, entity = names[stream.event_time], names[stream.entity]
    times, valid = times_ms(table[time])
    present = [name for name in kinds if name in table.column_names]
    columns = [
        optional_ints(times, valid) if name == time else plain_values(table[name], kinds[name])
        for name in present
    ]
    return recording_of(
        record_times(times, valid, before_ms),
        isinstance(stream, LabelStream),
        columns[present.index(entity)],
        present,
        columns,
    )


def _encoded_names(stream: Stream) -> dict[str, str]:
    return {field.name: field.encode_name for field in msgspec.structs.fields(stream.type)}


def _split_required(stream: Stream) -> tuple[list[str], list[str]]:
    """Return the columns that must be there, and those that the type has a default for."""
    roles = {stream.id, stream.entity, stream.event_time}
    fields = msgspec.structs.fields(stream.type)
    required = [f.encode_name for f in fields if f.required or f.name in roles]
    return required, [f.encode_name for f in fields if f.encode_name not in required]


def _field_kinds(stream: Stream) -> dict[str, Kind]:
    described = inspect.type_info(stream.type)
    fields = described.fields if isinstance(described, inspect.StructType) else ()
    return {field.encode_name: _kind(field.type) for field in fields}


def _kind(type_: inspect.Type) -> Kind:
    if isinstance(type_, inspect.Metadata):
        return _kind(type_.type)
    if isinstance(type_, inspect.UnionType):
        return next(
            (_kind(part) for part in type_.types if not isinstance(part, inspect.NoneType)), "text"
        )
    if isinstance(type_, inspect.LiteralType) and all(type(v) is int for v in type_.values):
        return "int"
    return _KINDS.get(type(type_), "text")
