"""A schedule by the clock on the wall: the trainer asks itself for a training, through the log.

Slots begin at multiples of ``every_wall`` since the epoch, UTC; the command's id is a function of
the slot, so a slot has one answer, whoever asks and however often. Only the trainer that holds the
commands' partition asks. A slot that began while none ran is made up for at the next start; but
before the first such command ever, the next slot is the first one due.
"""

from __future__ import annotations

import msgspec
import structlog

from streams.clock import Clock
from streams.control import ControlFollower, ControlWriter, decode_command
from streams.durations import seconds
from streams.errors import TrainingError
from streams.topics import Topics
from streams.wire import Retrain
from training.dataset.ranges import newest_time_ms

PREFIX = "wall-"
_LOG = structlog.get_logger(role="trainer")


def slot_of(now_ms: int, every_ms: int) -> int:
    """Return when the slot began in which ``now_ms`` lies.

    >>> slot_of(90_000, 60_000)
    60000
    """
    return now_ms // every_ms * every_ms


class WallSchedule:
    """Asks for trainings of one pipeline.

    Args:
        bootstrap: the broker.
        topics: the pipeline's.
        partitions: of its features and labels.
        every: the length of a slot, such as "24h".
        clock: tells the time.
    """

    def __init__(
        self, bootstrap: str, topics: Topics, partitions: int, every: str, clock: Clock
    ) -> None:
        self._bootstrap, self._topics, self._partitions = bootstrap, topics, partitions
        self._every, self._every_ms, self._clock = every, seconds(every) * 1000, clock
        self._writer = ControlWriter(bootstrap)
        self._commands = ControlFollower(bootstrap, topics.commands)
        self._done_ms = slot_of(clock.now_ms(), self._every_ms)
        self._asked_until_ms = 0
        last_ms = self._read()
        if last_ms is not None:
            self._done_ms = last_ms

    def ask_when_due(self) -> None:
        """Append a command where a slot has begun that has none.

        Raises:
            BrokerError: the log can't be read or written.
        """
        now_ms = self._clock.now_ms()
        slot_ms = slot_of(now_ms, self._every_ms)
        if slot_ms <= self._done_ms:
            return
        last_ms = self._read()
        self._done_ms = slot_ms
        if last_ms is not None and last_ms >= slot_ms:
            return  # another trainer has asked
        try:
            newest_ms = newest_time_ms(self._bootstrap, self._topics, self._partitions)
        except TrainingError as nothing:
            _LOG.info("no training by the clock", why=str(nothing))
            return
        # What is dated into the future by mistake must not hold up the schedule by event time.
        cutoff_ms = min(newest_ms + 1, now_ms)
        if cutoff_ms <= self._asked_until_ms:
            _LOG.info("no training by the clock", why="nothing has come since the last training")
            return
        command = Retrain(
            command_id=f"{PREFIX}{slot_ms}",
            reason=f"schedule: every {self._every} by the clock",
            cutoff_ms=cutoff_ms,
        )
        self._writer.append_command(self._topics.commands, command)
        _LOG.info("retraining asked for", reason=command.reason, command=command.command_id)

    def close(self) -> None:
        """Close the connection."""
        self._commands.close()

    def _read(self) -> int | None:
        """Read what commands have come; return the newest slot that has one, None for none."""
        newest: int | None = None
        for value in self._commands.catch_up():
            try:
                command = decode_command(value)
            except msgspec.MsgspecError:
                continue  # the trainer tells of it
            if not isinstance(command, Retrain):
                continue
            self._asked_until_ms = max(self._asked_until_ms, command.cutoff_ms)
            slot = command.command_id.removeprefix(PREFIX)
            if command.command_id.startswith(PREFIX) and slot.isdecimal():
                newest = max(newest or 0, int(slot))
        return newest
