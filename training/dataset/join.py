"""Features meet labels, point in time, as the log is read: one stretch of rows after another.

A label counts only if its record lies in the range that was read and it was known by the cut-off
(its event time ≤ the label cut-off); an event counts only if its event time lies in
[since, cutoff). The first label of an event wins, and so does the first feature record of an
event id. A feature record whose source offset does not exceed all those before it in its partition
was written again after a crash, and counts as nothing. "First" is the order of the log: partition,
then offset, in which the stretches have to come.

Only the labels are held in memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.dataset.ids import Ids

BEFORE_ALL = -1


class KnownLabels:
    """The labels that were known by ``cutoff_ms`` (milliseconds since the epoch)."""

    def __init__(self, cutoff_ms: int) -> None:
        self._cutoff_ms = cutoff_ms
        self._ids = Ids()
        self._targets = [np.empty(0)]
        self.counts = dict.fromkeys(
            ("label_records", "invalid_labels", "labels_after_cutoff", "repeated_labels"), 0
        )

    def __len__(self) -> int:
        """Return the number of events that have a label."""
        return len(self._ids)

    def add(self, table: pa.Table) -> None:
        """Take the next rows of the labels topic (see :mod:`training.dataset.columns`)."""
        valid = table.filter(table["valid"])
        known = valid.filter(pc.less_equal(valid["event_time_ms"], self._cutoff_ms))
        before = len(self._ids)
        numbers = self._ids.add(known["event_id"].combine_chunks())
        # New numbers come in ascending order, so a first row is a new maximum.
        first = numbers > np.maximum.accumulate(np.append(before - 1, numbers))[:-1]
        self._targets.append(known["target"].to_numpy()[first])
        self.counts["label_records"] += table.num_rows
        self.counts["invalid_labels"] += table.num_rows - valid.num_rows
        self.counts["labels_after_cutoff"] += valid.num_rows - known.num_rows
        self.counts["repeated_labels"] += int((~first).sum())

    def find(self, event_ids: pa.Array) -> NDArray[np.int64]:
        """Return the number of each event's label, −1 where it has none, shape (n,)."""
        return self._ids.find(event_ids)

    def targets(self) -> NDArray[np.float64]:
        """Return the targets by the labels' numbers."""
        self._targets = [np.concatenate(self._targets)]
        return self._targets[0]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a stretch of the features topic gives.

    ``counting`` are the rows that are not repeated; ``examples`` those of them that are labelled
    and lie in the window, with their ``targets``.
    """

    counting: NDArray[np.int64]
    examples: NDArray[np.int64]
    targets: NDArray[np.float64]


class Join:
    """Takes the features topic in log order.

    Args:
        labels: all that count.
        since_ms: events before this event time do not count; None for all.
        cutoff_ms: events from this event time on do not count.
    """

    def __init__(self, labels: KnownLabels, *, since_ms: int | None, cutoff_ms: int) -> None:
        self._labels, self._targets = labels, labels.targets()
        self._taken = np.zeros(len(labels), dtype=bool)
        self._since_ms, self._cutoff_ms = since_ms, cutoff_ms
        self._newest: dict[int, int] = {}
        self._counts = dict.fromkeys(
            ("feature_records", "repeated_feature_records", "events_in_window"), 0
        )

    @property
    def counts(self) -> dict[str, int]:
        """What became of the records so far."""
        return {**self._counts, **self._labels.counts, "known_labels": len(self._labels)}

    def take(self, table: pa.Table) -> Taken:
        """Take the next rows of the features topic (see :mod:`training.dataset.columns`)."""
        counting = np.flatnonzero(self._counting(table))
        numbers = self._labels.find(table["event_id"].combine_chunks())[counting]
        labelled = np.flatnonzero(numbers >= 0)
        first = np.zeros(len(labelled), dtype=bool)
        first[np.unique(numbers[labelled], return_index=True)[1]] = True
        first &= ~self._taken[numbers[labelled]]
        self._taken[numbers[labelled]] = True
        times = table["event_time_ms"].to_numpy()[counting]
        in_window = times < self._cutoff_ms
        if self._since_ms is not None:
            in_window &= times >= self._since_ms
        again = labelled[~first]
        in_window[again] = False
        self._counts["feature_records"] += table.num_rows
        self._counts["repeated_feature_records"] += table.num_rows - len(counting) + len(again)
        self._counts["events_in_window"] += int(in_window.sum())
        chosen = labelled[first & in_window[labelled]]
        return Taken(counting, counting[chosen], self._targets[numbers[chosen]])

    def _counting(self, table: pa.Table) -> NDArray[np.bool_]:
        """Return which rows have a source offset above all before them in their partition."""
        partitions = table["partition"].to_numpy()
        sources = table["source_offset"].to_numpy()
        counting = np.empty(len(sources), dtype=bool)
        bounds = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), len(sources)]
        for begin, end in itertools.pairwise(bounds):
            if begin == end:
                continue
            partition = int(partitions[begin])
            before = self._newest.get(partition, BEFORE_ALL)
            newest = np.maximum.accumulate(np.append(before, sources[begin:end]))
            counting[begin:end] = newest[1:] > newest[:-1]
            self._newest[partition] = int(newest[-1])
        return counting
