"""Features meet labels, point in time: pure functions over columns.

A label counts only if its record lies in the range that was read and it was known by the cut-off
(its event time ≤ the label cut-off); an event counts only if its event time lies in
[since, cutoff). The first label of an event wins, and so does the first feature record of an
event id, since a crashed feature worker may have written a stretch twice. "First" is the order of
the log: partition, then offset. The result is ordered by event time, then partition, then source
offset, so that it depends on nothing but the records read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.prepared import Examples, PreparedData

NOT_INPUTS = ("offset",)  # where a crash repeats records, this differs between equal logs


@dataclass(frozen=True)
class Joined:
    """Labelled examples, in order of event time: ``columns`` has n rows, ``targets`` is (n,).

    ``columns`` are those of the feature table. ``counts`` says what became of the records.
    """

    columns: pa.Table
    targets: NDArray[np.float64]
    counts: dict[str, int]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @property
    def event_times_ms(self) -> NDArray[np.int64]:
        """Event times, ascending, shape (n,)."""
        times: NDArray[np.int64] = self.columns["event_time_ms"].to_numpy()
        return times


def join(
    features: pa.Table,
    labels: pa.Table,
    *,
    cutoff_ms: int,
    label_cutoff_ms: int,
    since_ms: int | None = None,
) -> Joined:
    """Return the examples that a model may learn from at ``cutoff_ms``.

    Args:
        features: a feature table, any order of rows (see :mod:`training.dataset.columns`).
        labels: a label table, any order of rows.
        cutoff_ms: events from this event time on do not count.
        label_cutoff_ms: labels known later than this do not count.
        since_ms: events before this event time do not count; None for all.
    """
    known, label_counts = _known_labels(labels, label_cutoff_ms)
    events = _first_by_id(_in_log_order(features))
    repeated = features.num_rows - events.num_rows
    times = events["event_time_ms"].to_numpy()
    in_window = times < cutoff_ms
    if since_ms is not None:
        in_window &= times >= since_ms
    events = events.filter(pa.array(in_window))
    label_row = pc.index_in(events["event_id"], value_set=known["event_id"].combine_chunks())
    has_label = pc.is_valid(label_row)
    examples = events.filter(has_label)
    targets = known["target"].take(pc.drop_null(label_row)).to_numpy()
    order = np.lexsort(
        [examples[key].to_numpy() for key in ("source_offset", "partition", "event_time_ms")]
    )
    counts = {
        "feature_records": features.num_rows,
        "repeated_feature_records": repeated,
        "events_in_window": events.num_rows,
        **label_counts,
        "examples": len(order),
        "positives": int(targets.sum()),
    }
    return Joined(examples.take(pa.array(order)), targets[order], counts)


def split(joined: Joined, validation: float) -> int:
    """Return the row at which the validation slice begins: the latest ``validation`` share.

    Events of the same time never stand on both sides, so the slice may be a little larger.

    Raises:
        TrainingError: all examples have one event time, so nothing can be split by time.
    """
    times = joined.event_times_ms
    wanted = min(len(times) - 1, round(len(times) * (1 - validation)))
    at = int(np.searchsorted(times, times[wanted], "left")) if len(times) else 0
    if at == 0:
        raise TrainingError(
            f"the {len(times)} examples can't be split by time into training and validation: too "
            "few different event times; train later or on a longer window"
        )
    return at


def prepare(joined: Joined, validation: float) -> PreparedData:
    """Return the examples in the form that the network learns from, split by time."""
    at = split(joined, validation)
    numeric = [name for name in joined.columns.column_names if name.startswith("f.")]
    category = [name for name in joined.columns.column_names if name.startswith("c.")]
    return PreparedData(
        numeric_names=[name[2:] for name in numeric],
        category_names=[name[2:] for name in category],
        train=_examples(joined, slice(0, at), numeric, category),
        validation=_examples(joined, slice(at, len(joined)), numeric, category),
    )


def digest(joined: Joined) -> str:
    """Return the SHA-256 (hex) over every joined column and the targets, in order."""
    sha = hashlib.sha256()
    for name in joined.columns.column_names:
        if name not in NOT_INPUTS:
            sha.update(name.encode() + b"\0")
            _hash_column(sha, joined.columns[name])
    sha.update(b"target\0" + np.ascontiguousarray(joined.targets, dtype="<f8").tobytes())
    return sha.hexdigest()


def _hash_column(sha: hashlib._Hash, column: pa.ChunkedArray) -> None:
    if pa.types.is_string(column.type):
        sha.update(pc.binary_length(column).to_numpy().astype("<i4").tobytes())
        for chunk in column.chunks:
            data = chunk.buffers()[2]
            if data is not None:
                ends = np.frombuffer(chunk.buffers()[1], "<i4")[chunk.offset :]
                sha.update(memoryview(data)[ends[0] : ends[len(chunk)]])
        return
    values = column.to_numpy()
    if values.dtype == np.float64:
        # NaN has many bit patterns; missing is missing.
        values = np.where(np.isnan(values), np.nan, values)
    sha.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())


def _known_labels(labels: pa.Table, label_cutoff_ms: int) -> tuple[pa.Table, dict[str, int]]:
    valid = labels.filter(labels["valid"])
    known = valid.filter(pc.less_equal(valid["event_time_ms"], label_cutoff_ms))
    first = _first_by_id(_in_log_order(known))
    return first, {
        "label_records": labels.num_rows,
        "invalid_labels": labels.num_rows - valid.num_rows,
        "labels_after_cutoff": valid.num_rows - known.num_rows,
        "repeated_labels": known.num_rows - first.num_rows,
        "known_labels": first.num_rows,
    }


def _in_log_order(table: pa.Table) -> pa.Table:
    partitions, offsets = table["partition"].to_numpy(), table["offset"].to_numpy()
    ascending = (np.diff(partitions) > 0) | ((np.diff(partitions) == 0) & (np.diff(offsets) > 0))
    if ascending.all():  # as the segments come
        return table
    return table.take(pa.array(np.lexsort((offsets, partitions))))


def _first_by_id(table: pa.Table) -> pa.Table:
    """Return the first row of each event id."""
    # Dictionary codes are given in order of appearance, so a first row is a new maximum.
    codes = table["event_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    seen = np.maximum.accumulate(np.concatenate([[-1], codes[:-1]])) if len(codes) else codes
    return table.filter(pa.array(codes > seen))


def _examples(joined: Joined, rows: slice, numeric: list[str], category: list[str]) -> Examples:
    columns = joined.columns.slice(rows.start, rows.stop - rows.start)
    values = [columns[name].to_numpy() for name in numeric]
    shape = (columns.num_rows, 0)
    return Examples(
        numeric=np.stack(values, axis=1) if values else np.empty(shape),
        categories=[columns[name].to_pylist() for name in category],
        targets=joined.targets[rows],
        event_times_ms=columns["event_time_ms"].to_numpy(),
    )
