"""The commands of the log, one after the other, and what the log says was asked for before."""

from __future__ import annotations

from collections import deque

import msgspec
import structlog

from streams.control import ControlFollower, decode_command
from streams.wire import Command, Retrain


class CommandQueue:
    """Follows the commands topic from its beginning; ``done`` commands of it were obeyed before.

    ``asked`` are the ids of all retrain commands that stand in the log, ``asked_until_ms`` is the
    latest cut-off that stood there at the start.
    """

    def __init__(self, bootstrap: str, topic: str, done: int) -> None:
        self._follower = ControlFollower(bootstrap, topic)
        self._queue: deque[Command | None] = deque()
        self._append(self._follower.catch_up())
        past = [command for command in self._queue if isinstance(command, Retrain)]
        self.asked = {command.command_id for command in past}
        self.asked_until_ms = max((command.cutoff_ms for command in past), default=None)
        self.done = min(done, len(self._queue))
        for _ in range(self.done):
            self._queue.popleft()

    def __bool__(self) -> bool:
        """Return whether there is a command to obey."""
        return bool(self._queue)

    @property
    def position(self) -> int | None:
        """The offset behind all that was obeyed; None while a command waits."""
        return None if self._queue else self._follower.position

    def poll(self, timeout_s: float) -> None:
        """Take what has come; waits up to ``timeout_s`` for something."""
        self._append(self._follower.poll(timeout_s))

    def first(self) -> Command | None:
        """Return the command at hand; None is a record that is no command. Not empty."""
        return self._queue[0]

    def finish(self) -> None:
        """Count the command at hand as obeyed."""
        command = self._queue.popleft()
        self.done += 1
        if isinstance(command, Retrain):
            self.asked.add(command.command_id)

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()

    def _append(self, values: list[bytes]) -> None:
        for value in values:
            try:
                self._queue.append(decode_command(value))
            except msgspec.MsgspecError as error:
                structlog.get_logger(role="monitor").warning(
                    "a record that is no command is passed over", why=str(error)
                )
                self._queue.append(None)
