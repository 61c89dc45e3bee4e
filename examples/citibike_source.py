"""Reads bike trips as the operator publishes them.

A row of the files is a whole trip. Here it becomes what somebody watching would have seen: an
event at its start, and a label at its end. What is known only at the end (end station, stop time,
duration) is not in the event.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.files import CSV, find_files
from streams.merging import concatenate, cut, in_order, merge
from streams.recording import Recording
from streams.rows import optional_ints, record_times, recording_of, torn_recording
from streams.tables import plain_values, read_tables

TIMEZONE = "America/New_York"
COLUMNS = ("tripduration", "starttime", "stoptime", "start station id", "bikeid", "usertype")
EVENT_FIELDS = ("trip_id", "station", "bike", "user_type", "started_at_ms")
LABEL_FIELDS = ("trip_id", "station", "ended_at_ms", "duration_s")

_ROWS = 8_192
_LONGEST_S = 1e9  # 30 years; more is no duration, and would not fit the arithmetic


def read(path: Path) -> Iterator[Recording]:
    """Yield the trips of a monthly file or of a folder of them, in the order of happening.

    ``path`` is a CSV or its zip. Raises SourceError where a file can't be read.
    """
    files = find_files(path, CSV)
    yield from merge([_read_file(file) for file in files])


def _read_file(file: Path) -> Iterator[Recording]:
    """Yield one file's events and labels in order; a month of trips is held in memory."""
    torn: list[str] = []
    trips = pa.concat_tables(read_tables(file, COLUMNS, (), torn))
    rows = trips_to_recording(trips)
    last_ms = int(rows.timestamps_ms.max(initial=0))
    recording = in_order(concatenate([rows, torn_recording(torn, False, last_ms)]))
    for start in range(0, len(recording), _ROWS):
        yield cut(recording, start, start + _ROWS)


def trips_to_recording(trips: pa.Table) -> Recording:
    """Return the events, and after them the labels, of a table with :data:`COLUMNS`."""
    durations_s = np.asarray(plain_values(trips["tripduration"], "float"), dtype=np.float64)
    started_ms, valid = started_at(
        _local_times(trips["starttime"]), _local_times(trips["stoptime"]), durations_s
    )
    known = valid & (np.abs(durations_s) < _LONGEST_S)
    elapsed_ms = (np.where(known, durations_s, 0.0) * 1000).astype(np.int64)
    bikes = plain_values(trips["bikeid"], "text")
    stations = plain_values(trips["start station id"], "text")
    starts = optional_ints(started_ms, valid)
    ids = [
        None if start is None or bike is None else f"{bike}-{start}"
        for bike, start in zip(bikes, starts, strict=True)
    ]
    users = plain_values(trips["usertype"], "text")
    times_ms = record_times(started_ms, valid)
    events = recording_of(
        times_ms, False, stations, EVENT_FIELDS, [ids, stations, bikes, users, starts]
    )
    ends = optional_ints(started_ms + elapsed_ms, known)
    labels = recording_of(
        # A trip that "ends before it starts" stands at its start; its label is a dead letter.
        times_ms + np.maximum(elapsed_ms, 0),
        True, stations, LABEL_FIELDS, [ids, stations, ends, durations_s.tolist()],
    )  # fmt: skip
    return concatenate([events, labels])


def started_at(
    starts: pd.Series, stops: pd.Series, durations_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return when trips started, milliseconds UTC (n,), and whether that is known (n,).

    The files give naive local times. Where clocks are put back, an hour happens twice; where they
    are put forward, one does not exist. Each such time has two readings; the one is taken from
    which the duration leads to the stop time (in either of its own readings), the first if both
    or neither do.
    """
    first, second = _readings(starts)
    stop_first, stop_second = _readings(stops)
    elapsed_ms = np.where(np.isfinite(durations_s), durations_s, 0.0) * 1000

    def error_ms(start: NDArray[np.int64]) -> NDArray[np.float64]:
        end = start + elapsed_ms
        error: NDArray[np.float64] = np.minimum(abs(end - stop_first), abs(end - stop_second))
        return error

    # Durations are whole seconds, cut off: two readings that differ by less say the same.
    better = error_ms(second) + 1000 < error_ms(first)
    valid = starts.notna().to_numpy()
    return np.where(better & stops.notna().to_numpy(), second, first), valid


def _readings(local: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both readings of naive local times, milliseconds UTC; equal for most, 0 for NaT."""
    times = local.fillna(pd.Timestamp(0)).dt.as_unit("ms")
    both = []
    for summer_time, shift in ((True, pd.Timedelta(hours=1)), (False, pd.Timedelta(hours=-1))):
        aware = times.dt.tz_localize(
            TIMEZONE, ambiguous=np.full(len(times), summer_time), nonexistent=shift
        )
        both.append(aware.dt.tz_convert("UTC").to_numpy("datetime64[ms]").astype(np.int64))
    return both[0], both[1]


def _local_times(column: pa.ChunkedArray) -> pd.Series:
    """Return naive times as pandas knows them, NaT where a cell is none, or names a zone."""
    naive = pc.if_else(pc.match_substring_regex(column, r"(Z|[+-]\d\d:?\d\d)$"), None, column)
    parsed = pd.to_datetime(naive.to_pandas(), errors="coerce", format="ISO8601", utc=True)
    return pd.Series(parsed).dt.tz_localize(None)
