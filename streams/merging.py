"""Several recordings to one in the order in which everything happened.

The order is by timestamp; at the same millisecond labels stand before events (what was known at
that moment counts as known to who is asked then), and after that the order of the streams and of
the rows within each decides. It does not depend on how the streams are cut into recordings, and
only one recording of each stream is held in memory.
"""

from collections.abc import Iterable, Iterator
from itertools import compress
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from streams.errors import SourceError
from streams.recording import Recording


def merge(streams: Iterable[Iterable[Recording]]) -> Iterator[Recording]:
    """Yield the records of all ``streams`` in one order; each stream must ascend by itself.

    Raises:
        SourceError: a stream goes back in time.
    """
    cursors = [cursor for cursor in map(_Cursor, streams) if cursor.left()]
    while cursors:
        # What a stream still holds can't be earlier than the end of what it has shown.
        bound = min((cursor.reach for cursor in cursors if not cursor.exhausted), default=None)
        parts = [cursor.take(bound) for cursor in cursors]
        merged = in_order(concatenate(parts))
        if len(merged):
            yield merged
        else:  # everything shown of some stream lies at the bound: look further
            for cursor in cursors:
                if not cursor.exhausted and cursor.reach == bound:
                    cursor.extend()
        cursors = [cursor for cursor in cursors if cursor.left()]


def ascending(stream: Iterable[Recording]) -> Iterator[Recording]:
    """Yield what ``stream`` yields, without the empty ones; raises SourceError at a step back."""
    reach_ms = None
    for recording in stream:
        if not len(recording):
            continue
        times = recording.timestamps_ms
        first_ms = int(times[0]) if reach_ms is None else reach_ms
        if int(times[0]) < first_ms or bool((times[1:] < times[:-1]).any()):
            raise SourceError(
                f"a reader goes back in time, at or after {first_ms} ms since the epoch: it must "
                "yield records in ascending order of timestamps_ms; sort them in the reader"
            )
        reach_ms = int(times[-1])
        yield recording


def in_order(recording: Recording) -> Recording:
    """Return the same records, sorted: time, labels before events, then as they stood."""
    order = np.lexsort((~recording.is_label, recording.timestamps_ms))
    if bool((order[1:] > order[:-1]).all()):
        return recording
    return _pick(recording, order)


def concatenate(parts: list[Recording]) -> Recording:
    """Return the records of ``parts`` one after another, unsorted; one part is returned itself."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    keys: list[bytes | None] = []
    values: list[bytes] = []
    for part in parts:
        keys += part.keys
        values += part.values
    return Recording(
        np.concatenate([np.empty(0, np.int64), *(part.timestamps_ms for part in parts)]),
        np.concatenate([np.empty(0, np.bool_), *(part.is_label for part in parts)]),
        keys,
        values,
    )


def cut(recording: Recording, start: int, stop: int) -> Recording:
    """Return rows [start, stop)."""
    if start == 0 and stop >= len(recording):
        return recording
    rows = slice(start, stop)
    return Recording(
        recording.timestamps_ms[rows],
        recording.is_label[rows],
        recording.keys[rows],
        recording.values[rows],
    )


def rows_where(recording: Recording, wanted: NDArray[np.bool_]) -> Recording:
    """Return the rows where ``wanted``, shape (n,), is true."""
    chosen = wanted.tolist()
    return Recording(
        recording.timestamps_ms[wanted],
        recording.is_label[wanted],
        list(compress(recording.keys, chosen)),
        list(compress(recording.values, chosen)),
    )


def first_records(recordings: Iterable[Recording], records: int) -> Iterator[Recording]:
    """Yield the first ``records`` records."""
    left = records
    for recording in recordings:
        if left <= 0:
            return
        yield cut(recording, 0, left)
        left -= len(recording)


def _pick(recording: Recording, order: NDArray[np.int64]) -> Recording:
    positions = order.tolist()
    if len(positions) < 2:
        return recording
    pick = itemgetter(*positions)
    return Recording(
        recording.timestamps_ms[order],
        recording.is_label[order],
        list(pick(recording.keys)),
        list(pick(recording.values)),
    )


class _Cursor:
    """A stream, and what was read of it but not taken yet."""

    def __init__(self, stream: Iterable[Recording]) -> None:
        self._stream = ascending(stream)
        self._held = concatenate([])
        self.exhausted = False
        self.reach = -1
        self.extend()

    def left(self) -> bool:
        """Return whether records are left; reads on where nothing is held."""
        while not self.exhausted and not len(self._held):
            self.extend()
        return len(self._held) > 0

    def extend(self) -> None:
        """Read the next recording behind what is held."""
        more = next(self._stream, None)
        if more is None:
            self.exhausted = True
            return
        self.reach = int(more.timestamps_ms[-1])
        self._held = concatenate([self._held, more])

    def take(self, bound: int | None) -> Recording:
        """Return and forget what lies before ``bound``; everything where it is None."""
        taken = len(self._held)
        if bound is not None:
            taken = int(np.searchsorted(self._held.timestamps_ms, bound, "left"))
        part = cut(self._held, 0, taken)
        self._held = cut(self._held, taken, len(self._held))
        return part
