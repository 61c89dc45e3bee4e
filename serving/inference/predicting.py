"""From what was read to the records that answer it, by each version that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.inference.answers import AnswerCodec, Asked, Questions, checked_answers, last_of
from serving.inference.histories import HistoryKeeper
from serving.inference.router import Answering, Router
from serving.inference.stretches import Outgoing, Place, Position
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


class Predicting:
    """Lets the versions answer; ``announce`` is called where another one takes over.

    ``codecs`` are by definition; ``clock`` is for ``times.predicted_ms``.
    """

    def __init__(
        self,
        router: Router,
        histories: HistoryKeeper,
        codecs: Mapping[int, AnswerCodec],
        clock: Clock,
        announce: Callable[[], None],
    ) -> None:
        self._router, self._histories = router, histories
        self._codecs, self._clock, self._announce = codecs, clock, announce

    def outgoing(self, read: list[Read]) -> list[Outgoing]:
        """Return the answers of all that answer; a model that fails must not stop the others."""
        while True:
            made: list[Outgoing] = []
            self._look(read)
            for chosen in self._router.answering:
                mine = [part for part in read if part.definition == chosen.definition]
                try:
                    made += [out for part in mine for out in self._by(chosen, part)]
                except Exception as error:
                    self._router.set_aside(chosen.version, error)
                    self._announce()
                    break  # the whole batch anew: what is announced holds for all of it
            else:
                return made

    def _look(self, read: list[Read]) -> None:
        """See to the histories of what was read, where a model that answers wants them."""
        for part in read:
            models = self._router.of(part.definition)
            last = max((last_of(chosen.predict) for chosen in models), default=0)
            if last:
                part.numbers = self._histories.look(part.place, part.begun, part.every.rows, last)

    def _by(self, chosen: Answering, part: Read) -> Iterator[Outgoing]:
        """Yield what the version answers of a partition, where that is anything."""
        first, last = chosen.since.get(str(part.place[1]), 0), last_of(chosen.predict)
        mine = part.new & (part.every.offsets >= first)
        due = part.every.select(mine)
        if not len(due):
            return
        asked: Asked = due.rows
        if last:
            asked = self._histories.histories(part.place, part.numbers[mine], last)
        answers = checked_answers(chosen.predict, asked, self._router.task)
        now_ms = self._clock.now_ms()
        codec = self._codecs[chosen.definition]
        yield codec.encode(due, answers, chosen.version, chosen.stage, now_ms)
