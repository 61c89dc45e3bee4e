"""From what was read to the records that answer it, by each version that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from serving.health.passing import note_answers
from serving.inference.answers import AnswerCodec, Asked, Questions, checked_answers, last_of
from serving.inference.histories import HistoryKeeper
from serving.inference.router import Answering, Panel, Router
from serving.inference.stretches import Outgoing, Place, Position
from streams import hops
from streams.assignment import arms_of
from streams.clock import Clock


@dataclass
class Read:
    """What was read of a partition: of ``every`` record those that are ``new`` (n,) are answered.

    ``begun`` is the position before it. ``numbers`` (n,) are those of the rows' histories, where a
    model wants them.
    """

    definition: int
    place: Place
    begun: Position
    every: Questions
    new: NDArray[np.bool_]
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class _FailedError(Exception):
    """A version failed while answering; the reason is the cause."""

    def __init__(self, version: int, reason: Exception) -> None:
        super().__init__(version)
        self.version, self.reason = version, reason


class Predicting:
    """Lets the versions answer, each those entities that the routing gives it.

    ``codecs`` are by definition; ``clock`` is for ``times.predicted_ms``.
    """

    def __init__(
        self,
        router: Router,
        histories: HistoryKeeper,
        codecs: Mapping[int, AnswerCodec],
        clock: Clock,
    ) -> None:
        self._router, self._histories = router, histories
        self._codecs, self._clock = codecs, clock

    def outgoing(self, read: list[Read]) -> list[Outgoing]:
        """Return the answers of all that answer, each partition's in the order of its records.

        A version that fails is set aside, and the whole batch is answered anew without it: so the
        routing in force afterwards holds for all of it.
        """
        while True:
            self._look(read)
            try:
                return [
                    made
                    for part in read
                    for panel in self._router.panels(part.definition)
                    if (made := self._by(panel, part)) is not None
                ]
            except _FailedError as failed:
                self._router.set_aside(failed.version, failed.reason)

    def _look(self, read: list[Read]) -> None:
        """See to the histories of what was read, where a model that answers wants them."""
        for part in read:
            models = self._router.of(part.definition)
            last = max((last_of(chosen.predict) for chosen in models), default=0)
            if last:
                part.numbers = self._histories.look(part.place, part.begun, part.every.rows, last)

    def _by(self, panel: Panel, part: Read) -> Outgoing | None:
        """Return what the versions of a panel answer of a partition, if that is anything."""
        first = panel.live.since.get(str(part.place[1]), 0)
        mine = part.new & (part.every.offsets >= first)
        due = part.every.select(mine)
        if not len(due):
            return None
        numbers = part.numbers[mine] if len(part.numbers) else part.numbers
        if not panel.routing.arms:
            return self._answer(panel.live, part, due, numbers)
        arms = arms_of(panel.routing, due.rows.entities)
        shares: list[tuple[NDArray[np.int64], Outgoing]] = []
        for arm in np.unique(arms).tolist():  # −1, the live version, is the last member
            own = arms == arm
            chosen, its = due.select(own), numbers[own] if len(numbers) else numbers
            shares.append(
                (np.flatnonzero(own), self._answer(panel.members[arm], part, chosen, its))
            )
        return shares[0][1] if len(shares) == 1 else merged(shares)

    def _answer(
        self, chosen: Answering, part: Read, due: Questions, numbers: NDArray[np.int64]
    ) -> Outgoing:
        last = last_of(chosen.predict)
        asked: Asked = due.rows
        if last:
            asked = self._histories.histories(part.place, numbers, last)
        try:
            answers = checked_answers(chosen.predict, asked, self._router.task)
        except Exception as error:  # a model that fails must not stop the others
            raise _FailedError(chosen.version, error) from error
        codec, now_ms = self._codecs[chosen.definition], self._clock.now_ms()
        note_answers(due.featurised_ms, due.rows.event_times_ms, now_ms)
        hops.count(codec.topic, len(due))
        return codec.encode(due, answers, chosen.version, chosen.stage, now_ms)


def merged(shares: list[tuple[NDArray[np.int64], Outgoing]]) -> Outgoing:
    """Return the records of one partition, of which each share has the rows with these numbers, in
    the order of the numbers; two rows at least."""
    order = np.argsort(np.concatenate([rows for rows, _ in shares]))
    in_order = itemgetter(*order.tolist())
    parts = [records for _, records in shares]
    first = parts[0]
    return Outgoing(
        topic=first.topic,
        partition=first.partition,
        keys=in_order([key for part in parts for key in part.keys]),
        values=in_order([value for part in parts for value in part.values]),
        timestamps_ms=in_order([at_ms for part in parts for at_ms in part.timestamps_ms]),
        headers=in_order([headers for part in parts for headers in part.headers]),
    )
