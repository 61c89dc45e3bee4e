"""Joins a version's answers with those given then and with labels, by event id. Pure.

A row is handed out as soon as both answers and the label are there, and its event is forgotten; at
the latest when time has passed so far that nothing more can come. So memory holds the events whose
labels are on their way, however long the past is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.feedback.names import Names

LIVE, ANSWERED, LABELLED, DONE = 1, 2, 4, 8
_FIRST_ROWS = 1024

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """n events that both answered, in the order of event time.

    ``live`` and ``answers`` are (n, width): what was answered then and by the version, as
    :mod:`serving.monitoring.told` has it. ``labels`` (n,) are NaN where none came.
    """

    event_ids: list[str]
    event_times_ms: Ints
    live_versions: Ints
    live: Floats
    answers: Floats
    labels: Floats

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.event_ids)


class Pairing:
    """The table; ``width`` is how many numbers an answer is, ``within_ms`` as for outcomes."""

    def __init__(self, width: int, within_ms: int) -> None:
        self._within_ms = within_ms
        self._type = np.dtype(
            [
                ("time_ms", "i8"), ("label", "f8"), ("label_time_ms", "i8"), ("version", "i4"),
                ("flags", "u1"), ("live", "f8", (width,)), ("answer", "f8", (width,)),
            ]
        )  # fmt: skip
        self._names = Names()
        self._rows = np.zeros(0, self._type)
        self._done = 0
        self._touched: list[Ints] = []
        self.without_live = 0
        self.without_answer = 0

    def __len__(self) -> int:
        """Return how many events wait for something."""
        return len(self._names) - self._done

    @property
    def nbytes(self) -> int:
        """How much memory it takes, in bytes."""
        return self._names.nbytes + int(self._rows.nbytes)

    def add_live(
        self, event_ids: Sequence[str], rows: Floats, versions: Ints, times_ms: Ints
    ) -> None:
        """Take what answered then, rows (n, width); of several for an event the first counts."""
        numbers, first = self._new(event_ids, LIVE)
        self._rows["live"][numbers] = rows[first]
        self._rows["version"][numbers] = versions[first]
        self._rows["time_ms"][numbers] = times_ms[first]

    def add_answers(self, event_ids: Sequence[str], rows: Floats, times_ms: Ints) -> None:
        """Take the version's answers, rows (n, width)."""
        numbers, first = self._new(event_ids, ANSWERED)
        self._rows["answer"][numbers] = rows[first]
        self._rows["time_ms"][numbers] = times_ms[first]

    def add_labels(self, event_ids: Sequence[str], labels: Floats, times_ms: Ints) -> None:
        """Take labels, (n,); of several for an event the first counts."""
        numbers, first = self._new(event_ids, LABELLED)
        self._rows["label"][numbers] = labels[first]
        self._rows["label_time_ms"][numbers] = times_ms[first]

    def take(self) -> Pairs:
        """Return what is complete."""
        touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched]))
        self._touched = []
        whole = LIVE | ANSWERED | LABELLED
        return self._handed_out(touched[self._rows["flags"][touched] == whole])

    def expire(self, clock_ms: int | None) -> Pairs:
        """Return what both answered and nothing can be added to, and forget what is not whole.

        All has been read up to ``clock_ms``; None: all there is.
        """
        rows = self._rows[: len(self._names)]
        flags = rows["flags"]
        newest_ms = np.where(
            flags & LABELLED, np.maximum(rows["label_time_ms"], rows["time_ms"]), rows["time_ms"]
        )
        over = (flags & DONE) == 0
        both = LIVE | ANSWERED
        if clock_ms is not None:  # only what both answered waits for its label
            wait_ms = np.where((flags & both) == both, self._within_ms, 0)
            over &= newest_ms + wait_ms < clock_ms
        alone = flags[over] & both
        self.without_live += int((alone == ANSWERED).sum())
        self.without_answer += int((alone == LIVE).sum())
        found = self._handed_out(np.flatnonzero(over & ((flags & both) == both)))
        rest = over & ((flags & both) != both)
        flags[rest] = DONE
        self._done += int(rest.sum())
        self._compact()
        return found

    def _handed_out(self, numbers: Ints) -> Pairs:
        numbers = numbers[np.argsort(self._rows["time_ms"][numbers], kind="stable")]
        rows = self._rows[numbers]
        apart_ms = np.abs(rows["label_time_ms"] - rows["time_ms"])
        in_time = ((rows["flags"] & LABELLED) != 0) & (apart_ms <= self._within_ms)
        pairs = Pairs(
            self._names.texts(numbers),
            rows["time_ms"],
            rows["version"].astype(np.int64),
            rows["live"],
            rows["answer"],
            np.where(in_time, rows["label"], np.nan),
        )
        self._rows["flags"][numbers] = DONE
        self._done += len(numbers)
        if self._done > 4 * _FIRST_ROWS and 2 * self._done > len(self._names):
            self._compact()
        return pairs

    def _compact(self) -> None:
        if self._touched:
            return  # their numbers would change
        kept = np.flatnonzero(self._rows["flags"][: len(self._names)] != DONE)
        self._names.keep(kept)
        self._rows, self._done = self._rows[kept].copy(), 0

    def _new(self, event_ids: Sequence[str], flag: int) -> tuple[Ints, Ints]:
        """Return the rows that have not had ``flag`` yet, and which of the ids they are."""
        known = len(self._names)
        numbers = self._names.of(event_ids)
        n = len(self._names)
        if n > len(self._rows):
            made = np.zeros(max(n, _FIRST_ROWS, len(self._rows) * 3 // 2), self._type)
            made[:known] = self._rows[:known]
            self._rows = made
        self._rows[known:n] = np.zeros(n - known, self._type)
        fresh = np.flatnonzero((self._rows["flags"][numbers] & (flag | DONE)) == 0)
        chosen, first = np.unique(numbers[fresh], return_index=True)
        self._rows["flags"][chosen] |= flag
        self._touched.append(chosen)
        return chosen, fresh[first]
