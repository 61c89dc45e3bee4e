"""From the columns of an input file to a recording."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.encoding import encode_rows
from streams.recording import Recording


def record_times(
    times_ms: NDArray[np.int64], valid: NDArray[np.bool_], before_ms: int | None = None
) -> NDArray[np.int64]:
    """Return a record timestamp for each row, (n,): its time, or the last valid one before it.

    Where nothing stands before, ``before_ms`` counts, or the first valid time after, or 0.
    """
    rows = np.arange(len(times_ms))
    newest = np.maximum.accumulate(np.where(valid, rows, -1)) if len(rows) else rows
    if before_ms is None:
        before_ms = int(times_ms[np.argmax(valid)]) if valid.any() else 0
    filled: NDArray[np.int64] = np.where(newest >= 0, times_ms[newest], before_ms)
    return filled


def record_keys(entities: Sequence[Any]) -> list[bytes | None]:
    """Return the record key of each entity; None where it is missing."""
    if set(map(type, entities)) == {str}:
        return list(map(str.encode, entities))
    return [None if entity is None else str(entity).encode() for entity in entities]


def recording_of(
    record_times_ms: NDArray[np.int64],
    is_label: bool,
    entities: Sequence[Any],
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
) -> Recording:
    """Return the rows as records of JSON objects with ``names``; see :func:`encode_rows`."""
    return Recording(
        record_times_ms,
        np.full(len(record_times_ms), is_label),
        record_keys(entities),
        encode_rows(names, columns),
    )


def optional_ints(values: NDArray[np.int64], valid: NDArray[np.bool_]) -> list[int | None]:
    """Return plain integers, None where not valid."""
    plain: list[int | None] = values.tolist()
    for row in np.flatnonzero(~valid).tolist():
        plain[row] = None
    return plain


def torn_recording(lines: Sequence[str], is_label: bool, time_ms: int) -> Recording:
    """Return lines that are no rows as records: the log keeps them, and they end as dead letters.

    ``time_ms`` is the record timestamp of all of them, a valid time before.
    """
    count = len(lines)
    return Recording(
        np.full(count, time_ms, np.int64),
        np.full(count, is_label),
        [None] * count,
        [line.encode() for line in lines],
    )
