"""Joins answers with labels by event id, as either comes first, and with the events' groups.

One table holds a row per event id; each input fills its columns; a row whose needed columns are
all filled is a match and is handed out once. Work per batch runs in C (dictionary look-ups mapped
over columns, then numpy), not in Python per event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress, count, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.orphans import Orphan, Patience, orphans_of
from streams.errors import StateError

ANSWERED, LABELLED, GROUPED, MATCHED = 1, 2, 4, 8

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """n events whose answer and label are both known, in no particular order.

    ``scores`` (n,), or (n, width) where an answer is several numbers. ``label_times_ms`` (n,) is
    when the label arrived, or its event's time where a label comes before its event: whoever has
    read all records before some time knows exactly the matches before it. ``groups`` (n, G) are the
    codes given with the events, in the declared order of groups. ``event_times_ms`` (n,) are those
    of the events; ``partitions`` and ``offsets`` (n,) say where the label stands in the labels
    topic, which with a time orders matches the same in every run.
    """

    scores: Floats
    labels: Floats
    label_times_ms: Ints
    versions: Ints
    groups: Ints
    event_times_ms: Ints
    partitions: Ints
    offsets: Ints

    def __len__(self) -> int:
        """Return the number of matches."""
        return len(self.scores)

    def only(self, chosen: Mask) -> Matches:
        """Return the matches where ``chosen`` (n,) holds."""
        if chosen.all():
            return self
        return Matches(
            self.scores[chosen],
            self.labels[chosen],
            self.label_times_ms[chosen],
            self.versions[chosen],
            self.groups[chosen],
            self.event_times_ms[chosen],
            self.partitions[chosen],
            self.offsets[chosen],
        )


class Matcher:
    """The table. ``groups`` is how many group fields an event has; 0 waits for none. ``patience``
    is that with labels without an event. ``width`` is how many numbers an answer is; where it is
    one, the label is 0 or 1.

    A row whose event and label both lie ``horizon_ms`` or more before the end given to
    :meth:`expire` is forgotten, at the latest half a horizon later.
    """

    def __init__(self, groups: int, horizon_ms: int, patience: Patience, width: int = 1) -> None:
        self._horizon_ms, self._patience = horizon_ms, patience
        self._needed = ANSWERED | LABELLED | (GROUPED if groups else 0)
        self._rows: dict[str, int] = {}
        self._next = 0
        self._columns = _columns(groups, width, 1024)
        self._touched: list[Ints] = []
        self._compacted = 0

    def __len__(self) -> int:
        """Return how many event ids the table holds."""
        return len(self._rows)

    def add_answers(
        self, event_ids: list[str], scores: Floats, versions: Ints, event_times_ms: Ints
    ) -> None:
        """Take predictions; of several for one event the first counts."""
        rows, first = self._fresh(event_ids, ANSWERED)
        self._columns["score"][rows] = scores[first]
        self._columns["version"][rows] = versions[first]
        self._columns["event_time"][rows] = event_times_ms[first]
        self._note_time(rows, event_times_ms[first])

    def add_groups(self, event_ids: list[str], codes: Ints, event_times_ms: Ints) -> None:
        """Take the group codes (n, G) of events; repeats change nothing."""
        rows, first = self._fresh(event_ids, GROUPED)
        self._columns["groups"][rows] = codes[first]
        self._columns["event_time"][rows] = event_times_ms[first]
        self._note_time(rows, event_times_ms[first])

    def add_labels(
        self, event_ids: list[str], labels: Floats, times_ms: Ints, partition: int, offsets: Ints
    ) -> Mask:
        """Take labels of one partition and return which of them are duplicates, shape (n,).

        A label is a duplicate where its event already has one. The same record read again (same
        partition and offset) is none, and changes nothing.
        """
        rows, first = self._fresh(event_ids, LABELLED)
        columns = self._columns
        columns["label"][rows] = labels[first]
        columns["label_time"][rows] = times_ms[first]
        columns["partition"][rows] = partition
        columns["offset"][rows] = offsets[first]
        self._note_time(rows, times_ms[first])
        if len(first) == len(event_ids):
            return np.zeros(len(event_ids), dtype=bool)
        every = self._rows_of(event_ids)
        same = (columns["partition"][every] == partition) & (columns["offset"][every] == offsets)
        duplicate: Mask = ~same
        return duplicate

    def take_matches(self) -> Matches:
        """Return what has become complete since the last call."""
        if len(self._touched) == 1:  # rows of one call differ from each other
            touched = self._touched[0]
        else:
            touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched]))
        self._touched = []
        columns = self._columns
        done = touched[(columns["flags"][touched] & (self._needed | MATCHED)) == self._needed]
        done = done[~self._too_early(done)]
        columns["flags"][done] |= MATCHED
        return Matches(
            columns["score"][done],
            columns["label"][done].astype(np.float64),
            np.maximum(columns["label_time"][done], columns["event_time"][done]),
            columns["version"][done].astype(np.int64),
            columns["groups"][done].astype(np.int64),
            columns["event_time"][done],
            columns["partition"][done].astype(np.int64),
            columns["offset"][done],
        )

    def expire(self, end_ms: int) -> list[Orphan]:
        """Return the labels that have become orphans at ``end_ms``, and forget old rows.

        A label is an orphan where no event of its id has been seen before its time is up; one that
        lies behind that, read early, is none. Orphans are ordered by partition and offset.
        """
        self._check_taken()
        columns, n = self._columns, self._next
        flags = columns["flags"][:n]
        waiting = np.flatnonzero((flags & (LABELLED | MATCHED)) == LABELLED)
        waiting = waiting[self._up_at(waiting) <= end_ms]
        unseen = (flags[waiting] & (ANSWERED | GROUPED)) == 0
        lost = waiting[unseen | self._too_early(waiting)]
        orphans = orphans_of(lost, self._rows, columns["partition"], columns["offset"])
        flags[lost] &= ~np.uint8(LABELLED)
        # Dropping rows costs a pass over all, so it is done twice per horizon, by event time.
        period = end_ms * 2 // self._horizon_ms
        if period != self._compacted:
            self._compacted = period
            self._compact(end_ms - self._horizon_ms)
        return orphans

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the table as plain arrays. Matches must have been taken."""
        self._check_taken()
        if len(self._rows) < self._next or not self._columns["flags"][: self._next].all():
            self._compact(None)
        text = np.frombuffer("".join(self._rows).encode(), dtype=np.uint8)
        ids = self._rows if len(text) == sum(map(len, self._rows)) else map(str.encode, self._rows)
        lengths = np.fromiter(map(len, ids), np.int64, len(self._rows))
        kept = {name: column[: self._next] for name, column in self._columns.items()}
        compacted = np.array(self._compacted)
        return {"ids": text, "id_lengths": lengths, "compacted": compacted, **kept}

    @classmethod
    def restore(
        cls,
        groups: int,
        horizon_ms: int,
        patience: Patience,
        arrays: Mapping[str, NDArray[Any]],
        width: int = 1,
    ) -> Matcher:
        """Return the table that :meth:`snapshot` described."""
        matcher = cls(groups, horizon_ms, patience, width)
        text, ends = arrays["ids"].tobytes(), np.cumsum(arrays["id_lengths"]).tolist()
        ids = [text[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
        matcher._rows = {event_id: row for row, event_id in enumerate(ids)}
        matcher._next = len(ids)
        matcher._columns = {name: np.array(arrays[name]) for name in matcher._columns}
        matcher._compacted = int(arrays["compacted"])
        return matcher

    def regroup(self, groups: int) -> None:
        """Forget the group codes of the rows not matched yet; events have ``groups`` from now on.

        Matches must have been taken. The events of those rows have to be added again.
        """
        self._check_taken()
        n, columns = self._next, self._columns
        open_rows = (columns["flags"][:n] & MATCHED) == 0
        columns["flags"][:n][open_rows] &= ~np.uint8(GROUPED)
        columns["groups"] = np.zeros((len(columns["flags"]), groups), np.int32)
        self._needed = ANSWERED | LABELLED | (GROUPED if groups else 0)
        self._touched.append(np.flatnonzero(open_rows))

    def _up_at(self, rows: Ints) -> Ints:
        return self._patience.up_at(self._columns["label_time"][rows])

    def _too_early(self, rows: Ints) -> Mask:
        """Return which labelled rows, (n,), have an event that comes only after their label's time
        is up: however far reading has run ahead, that label is an orphan."""
        early: Mask = self._columns["event_time"][rows] >= self._up_at(rows)
        return early

    def _check_taken(self) -> None:
        if self._touched:
            raise StateError("a matcher with matches not taken can't drop rows: take them first")

    def _fresh(self, event_ids: list[str], flag: int) -> tuple[Ints, Ints]:
        """Return the rows that have not had ``flag`` yet, and which of the ids they are.

        Makes rows for new ids and sets the flag. Of an id that comes twice the first is returned.
        """
        rows = self._rows_of(event_ids)
        new = np.flatnonzero((self._columns["flags"][rows] & flag) == 0)
        chosen = rows[new]
        if (np.diff(chosen) <= 0).any():  # an id may stand in the batch twice
            new = new[np.unique(chosen, return_index=True)[1]]
            chosen = rows[new]
        self._columns["flags"][chosen] |= flag
        self._touched.append(chosen)
        return chosen, new

    def _rows_of(self, event_ids: list[str]) -> Ints:
        """Return the row of each id, made where there is none."""
        n = len(event_ids)
        rows = np.fromiter(map(self._rows.get, event_ids, repeat(-1)), np.int64, n)
        missing = rows < 0
        if not missing.any():
            return rows
        unknown = list(compress(event_ids, missing.tolist()))
        # An id that is there twice leaves a row unused, until rows are dropped.
        made = map(self._rows.setdefault, unknown, count(self._next))
        rows[missing] = np.fromiter(made, np.int64, len(unknown))
        self._next += len(unknown)
        self._grow()
        return rows

    def _note_time(self, rows: Ints, times_ms: Ints) -> None:
        """Remember the newest time that a row has to do with: event or label."""
        if len(rows):
            time = self._columns["time"]
            time[rows] = np.maximum(time[rows], times_ms)

    def _grow(self) -> None:
        size = len(self._columns["flags"])
        if self._next > size:
            more = max(self._next, 2 * size) - size
            for name, column in self._columns.items():
                pad = np.zeros((more, *column.shape[1:]), dtype=column.dtype)
                self._columns[name] = np.concatenate([column, pad])

    def _compact(self, before_ms: int | None) -> None:
        """Drop unused rows, and those whose newest time is before ``before_ms``."""
        rows = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        keep = self._columns["flags"][rows] != 0
        if before_ms is not None:
            keep &= self._columns["time"][rows] >= before_ms
        ids = list(compress(self._rows, keep.tolist()))
        self._columns = {name: column[rows[keep]] for name, column in self._columns.items()}
        self._rows = dict(zip(ids, range(len(ids)), strict=True))
        self._next = len(ids)


def _columns(groups: int, width: int, size: int) -> dict[str, NDArray[Any]]:
    return {
        "flags": np.zeros(size, np.uint8),
        "time": np.zeros(size, np.int64),
        "event_time": np.zeros(size, np.int64),
        "score": np.zeros(size if width == 1 else (size, width), np.float64),
        "version": np.zeros(size, np.int32),
        "label": np.zeros(size, np.int8 if width == 1 else np.float64),
        "label_time": np.zeros(size, np.int64),
        "partition": np.zeros(size, np.int32),
        "offset": np.zeros(size, np.int64),
        "groups": np.zeros((size, groups), np.int32),
    }
