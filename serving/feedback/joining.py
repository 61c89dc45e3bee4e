"""Joins answers with labels by event id, whenever either comes, and with the events' groups.

An answer and a label of one event id are matched where the label's time is at most ``within_ms``
from the event's, either way: a function of the two records alone. What memory holds follows from
the clock (:meth:`Joining.expire`): an answer waits until no label can match it any more, a label
stays for as long after its own time, for the answers that come late (a version put in shadow over
the past, a canary), and an event's id as long again, so that a label that is late can be told from
one of an event that nobody knows.

Nothing depends on the interleaving of the inputs, but for which of several labels of one event id
is the first where they stand in different partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.feedback.columns import NONE, Answered, Matched, Rows, answer_type, event_type
from serving.feedback.names import Names

LABELLED, PREDICTED, LATE = 1, 2, 4
_FIRST_ROWS = 1024

Ints = NDArray[np.int64]


@dataclass
class Counts:
    """What became of what was read, from the beginning of the log.

    ``matched``: answers that got their label. ``unlabelled``: answers to which none came in time.
    ``late``: labels that came too late for their event's answers. ``unknown``: labels of event ids
    that nobody answered. ``duplicates``: labels of events that had one. ``unusable``: records of
    the labels topic that are no labels.
    """

    answers: int = 0
    labels: int = 0
    matched: int = 0
    unlabelled: int = 0
    late: int = 0
    unknown: int = 0
    duplicates: int = 0
    unusable: int = 0

    def to_json(self) -> dict[str, int]:
        """Return them by name."""
        return asdict(self)


class Joining:
    """The table of events and the answers that wait.

    Args:
        within_ms: how far apart an event's and its label's time may be.
        groups: how many group fields there are over all definitions.
        needs: definition → the numbers of the group fields that its answers wait for.
        extra: how many numbers an answer has beside its score.
    """

    def __init__(
        self, within_ms: int, groups: int = 0, needs: Mapping[int, Sequence[int]] | None = None,
        extra: int = 0,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self._within_ms = within_ms
        self._needs = dict(needs or {})
        self._ids, self._entities, self._own_ids = Names(), Names(), Names()
        self._events = _blank(event_type(groups), 0)
        self._answers = np.empty(0, answer_type(extra))
        self._used = 0  # of the answers' rows
        self._waiting = 0
        self._touched: list[Ints] = []
        self._expired_ms: int | None = None

    def __len__(self) -> int:
        """Return how many answers wait."""
        return self._waiting

    @property
    def events(self) -> int:
        """How many event ids are remembered."""
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """How much memory all of it takes, in bytes."""
        names = self._ids.nbytes + self._entities.nbytes + self._own_ids.nbytes
        return names + int(self._events.nbytes) + int(self._answers.nbytes)

    # What comes

    def add_answers(self, answered: Answered) -> None:
        """Take answers; several of one event are kept apart."""
        n = len(answered)
        if not n:
            return
        numbers = self._numbers(answered.event_ids)
        first = self._used
        self._answers = _room(self._answers, first + n)
        rows = self._answers[first : first + n]
        rows[:] = answered.rows
        rows["event"] = numbers
        rows["entity"] = self._entities.of(answered.entities)
        rows["own_id"] = NONE if answered.own_ids is None else self._own_ids.of(answered.own_ids)
        self._used += n
        self._waiting += n
        self.counts.answers += n
        times = self._events["time_ms"]
        np.maximum.at(times, numbers, answered.rows["event_time_ms"])
        self._events["flags"][numbers] |= PREDICTED
        self._link(np.arange(first, first + n))
        self._touched.append(numbers)

    def add_labels(
        self, event_ids: Sequence[str], labels: NDArray[np.float64], times_ms: Ints,
        partition: int, offsets: Ints,
    ) -> None:  # fmt: skip
        """Take labels of one partition, (n,); of several for one event the first counts."""
        if not len(event_ids):
            return
        numbers = self._numbers(event_ids)
        new = (self._events["flags"][numbers] & LABELLED) == 0
        rows = np.flatnonzero(new)
        found, first = np.unique(numbers[rows], return_index=True)
        rows = rows[first]
        events = self._events
        events["label"][found] = labels[rows]
        events["label_time_ms"][found] = times_ms[rows]
        events["label_partition"][found] = partition
        events["label_offset"][found] = offsets[rows]
        events["flags"][found] |= LABELLED
        self.counts.labels += len(event_ids)
        self.counts.duplicates += len(event_ids) - len(rows)
        self._touched.append(numbers[np.sort(rows)])

    def add_groups(
        self, event_ids: Sequence[str], times_ms: Ints, fields: Sequence[int], codes: Ints
    ) -> None:
        """Take the codes (n, len(fields)) of group fields of events; repeats change nothing."""
        if not len(event_ids):
            return
        numbers = self._numbers(event_ids)
        np.maximum.at(self._events["time_ms"], numbers, times_ms)
        for i, field in enumerate(fields):
            self._events["groups"][numbers, field] = codes[:, i]
        self._touched.append(numbers)

    # What is matched

    def take(self) -> Matched:
        """Return what has become complete since the last call, each answer once."""
        touched = np.concatenate([np.empty(0, np.int64), *self._touched])
        self._touched = []
        events = self._events
        ready = (events["flags"][touched] & LABELLED != 0) & (events["head"][touched] != NONE)
        chosen = _distinct(touched[ready])
        rows = self._unlinked(chosen)
        answers = self._answers[rows]
        numbers = answers["event"].astype(np.int64)
        apart_ms = np.abs(events["label_time_ms"][numbers] - answers["event_time_ms"])
        in_time = apart_ms <= self._within_ms
        whole = self._has_groups(numbers, answers["definition"])
        self._link(rows[in_time & ~whole])
        late = _distinct(numbers[~in_time])
        late = late[events["flags"][late] & LATE == 0]
        events["flags"][late] |= LATE
        self.counts.late += len(late)
        self.counts.unlabelled += int((~in_time).sum())
        done = in_time & whole
        matched = self._matched(answers[done], numbers[done])
        self._free(rows[~in_time | whole])
        self.counts.matched += len(matched)
        # A label that meets only what has been given up is late too.
        self._count_late(touched)
        return matched

    def _count_late(self, touched: Ints) -> None:
        events = self._events
        flags = events["flags"][touched]
        apart_ms = np.abs(events["label_time_ms"][touched] - events["time_ms"][touched])
        is_late = (flags & (LABELLED | PREDICTED | LATE)) == (LABELLED | PREDICTED)
        late = _distinct(touched[is_late & (apart_ms > self._within_ms)])
        events["flags"][late] |= LATE
        self.counts.late += len(late)

    def _matched(self, answers: Rows, numbers: Ints) -> Matched:
        events = self._events[numbers]
        groups = events["groups"].astype(np.int64)
        for definition in np.unique(answers["definition"]).tolist():
            others = np.setdiff1d(np.arange(groups.shape[1]), self._needs.get(definition, ()))
            groups[np.ix_(answers["definition"] == definition, others)] = NONE
        own = answers["own_id"].astype(np.int64)
        own_ids: list[str | None] = [None] * len(answers)
        has = np.flatnonzero(own != NONE)
        for row, text in zip(has.tolist(), self._own_ids.texts(own[has]), strict=True):
            own_ids[row] = text
        return Matched(
            self._ids.texts(numbers),
            self._entities.encoded(answers["entity"].astype(np.int64)),
            own_ids,
            answers,
            events["label"],
            events["label_time_ms"],
            events["label_partition"].astype(np.int64),
            events["label_offset"],
            groups,
        )

    def _has_groups(self, numbers: Ints, definitions: NDArray[Any]) -> NDArray[np.bool_]:
        whole = np.ones(len(numbers), dtype=bool)
        for definition, fields in self._needs.items():
            mine = definitions == definition
            if fields and mine.any():
                known = self._events["groups"][numbers[mine]][:, list(fields)] != NONE
                whole[mine] = known.all(axis=1)
        return whole

    # What is let go

    def expire(self, clock_ms: int) -> bool:
        """Let go of what nothing can match any more: all labels up to ``clock_ms`` have come.

        Matches must have been taken. Costs a pass over everything, so it is done sixteen times per
        ``within_ms``; returns whether it was.
        """
        period = clock_ms * 16 // max(self._within_ms, 16)
        if self._expired_ms is not None and period <= self._expired_ms:
            return False
        self._expired_ms = period
        answers = self._answers[: self._used]
        held = answers["event"] != NONE
        gone = held & (answers["event_time_ms"] + self._within_ms < clock_ms)
        self.counts.unlabelled += int(gone.sum())
        answers["event"][gone] = NONE
        self._waiting -= int(gone.sum())
        self._compact_answers()
        self._forget_events(clock_ms)
        return True

    def _forget_events(self, clock_ms: int) -> None:
        events = self._events[: len(self._ids)]
        labelled = events["flags"] & LABELLED != 0
        until = np.where(
            labelled,
            np.maximum(events["label_time_ms"], events["time_ms"]) + self._within_ms,
            events["time_ms"] + 2 * self._within_ms,
        )
        keep = (events["head"] != NONE) | (until >= clock_ms)
        unknown = ~keep & labelled & (events["flags"] & PREDICTED == 0)
        self.counts.unknown += int(unknown.sum())
        kept = np.flatnonzero(keep)
        if len(kept) == len(events):
            return
        self._ids.keep(kept)
        self._events = events[kept].copy()
        places = np.full(len(keep), NONE, np.int64)
        places[kept] = np.arange(len(kept))
        answers = self._answers[: self._used]
        held = answers["event"] != NONE
        answers["event"][held] = places[answers["event"][held]]

    def _compact_answers(self) -> None:
        """Drop the rows that are free, and link the others anew."""
        rows = self._answers[: self._used]
        self._answers = rows[rows["event"] != NONE].copy()
        self._used = len(self._answers)
        self._entities = _kept(self._entities, self._answers, "entity")
        self._own_ids = _kept(self._own_ids, self._answers, "own_id")
        self._events["head"] = NONE
        self._link(np.arange(self._used))

    # Links from an event to the answers that wait

    def _link(self, rows: Ints) -> None:
        """Put answers (n,) in front of those that wait for their events."""
        if not len(rows):
            return
        events = self._answers["event"][rows]
        order = np.argsort(events, kind="stable")
        rows, events = rows[order], events[order]
        following = self._events["head"][events]
        same = events[1:] == events[:-1]
        following[:-1][same] = rows[1:][same]
        self._answers["next"][rows] = following
        first = np.concatenate([[True], ~same])
        self._events["head"][events[first]] = rows[first]

    def _unlinked(self, numbers: Ints) -> Ints:
        """Return the rows that wait for events, in the order of having come; none waits then."""
        heads = self._events["head"]
        found, at = [np.empty(0, np.int64)], heads[numbers].astype(np.int64)
        heads[numbers] = NONE
        while len(at):
            found.append(at)
            at = self._answers["next"][at].astype(np.int64)
            at = at[at != NONE]
        return np.sort(np.concatenate(found))

    def _free(self, rows: Ints) -> None:
        self._answers["event"][rows] = NONE
        self._waiting -= len(rows)
        if self._used > _FIRST_ROWS and self._used > 2 * self._waiting:
            self._compact_answers()

    def _numbers(self, event_ids: Sequence[str]) -> Ints:
        known = len(self._ids)
        numbers = self._ids.of(event_ids)
        if len(self._ids) > known:
            self._events = _room(self._events, len(self._ids))
            self._events[known : len(self._ids)] = _blank(self._events.dtype, 1)[0]
        return numbers

    # Snapshot

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return all as plain arrays. Matches must have been taken."""
        self._compact_answers()
        arrays: dict[str, NDArray[Any]] = {
            "answers": self._answers,
            "events": self._events[: len(self._ids)],
            "counts": np.array(list(self.counts.to_json().values()), np.int64),
            "expired": np.array(
                [] if self._expired_ms is None else [self._expired_ms], dtype=np.int64
            ),
        }
        for name, names in self._names().items():
            arrays |= {f"{name}/{part}": array for part, array in names.snapshot().items()}
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned; raises ValueError where it does not fit."""
        answers, events = arrays["answers"], arrays["events"]
        if answers.dtype != self._answers.dtype or events.dtype != self._events.dtype:
            raise ValueError("the rows are of another format")
        names = [
            Names.restore({
                part: arrays[f"{name}/{part}"] for part in ("entity_ends", "entity_bytes")
            })
            for name in self._names()
        ]  # fmt: skip
        self._ids, self._entities, self._own_ids = names
        self._answers, self._events = answers.copy(), events.copy()
        self._used = self._waiting = len(answers)
        self._events["head"] = NONE
        self._link(np.arange(self._used))
        self.counts = Counts(*arrays["counts"].tolist())
        expired = arrays["expired"].tolist()
        self._expired_ms = expired[0] if expired else None

    def _names(self) -> dict[str, Names]:
        return {"ids": self._ids, "entities": self._entities, "own_ids": self._own_ids}


def _blank(of: np.dtype[Any], n: int) -> Rows:
    """Return rows of events of which nothing is known."""
    made = np.zeros(n, of)
    made["head"] = NONE
    made["groups"] = NONE
    made["time_ms"] = np.iinfo(np.int64).min // 4
    return made


def _room(rows: Rows, needed: int) -> Rows:
    """Return the rows with room for ``needed``; a half more, where they must grow."""
    if needed <= len(rows):
        return rows
    made = np.empty(max(needed, _FIRST_ROWS, len(rows) + len(rows) // 2), rows.dtype)
    made[: len(rows)] = rows
    return made


def _kept(names: Names, answers: Rows, column: str) -> Names:
    """Let go of texts that no answer has, where they are more than half; renumber the column."""
    used = np.unique(answers[column])
    used = used[used != NONE].astype(np.int64)
    if len(names) <= 2 * len(used):
        return names
    has = answers[column] != NONE
    answers[column][has] = np.searchsorted(used, answers[column][has])
    names.keep(used)
    return names


def _distinct(numbers: Ints) -> Ints:
    """Return each number once."""
    return np.unique(numbers)
