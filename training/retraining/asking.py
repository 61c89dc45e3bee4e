"""Asking the running trainer for a training, and waiting for its answer in the control log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.topics import Topics
from streams.wire import ModelEvent, Registered, Retrain, StageChanged, TrainingRefused

POLL_S = 0.2


@dataclass(frozen=True)
class Answer:
    """What became of a Retrain command: a version that went live or into shadow, or a refusal.

    ``version`` is None where it was refused. ``comparison`` is as in
    :class:`streams.wire.Registered`; ``stage`` is the one that the version was put into.
    """

    command_id: str
    reason: str
    version: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    stage: str | None = None


class Request:
    """One Retrain command: appends it, and follows the control log for its answer."""

    def __init__(self, bootstrap: str, topics: Topics, command: Retrain) -> None:
        self.command = command
        self._follower = ControlFollower(bootstrap, topics.models)
        self._events: list[ModelEvent] = []
        ControlWriter(bootstrap).append_command(topics.commands, command)

    def wait(self, tell: Callable[[], None], timeout_s: float) -> Answer | None:
        """Return the answer, or None where there is none within ``timeout_s`` seconds.

        ``tell`` is called now and then while it waits. The command stands, whatever comes of this.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._events += decode_model_events(self._follower.poll(POLL_S))
            found = answer(self._events, self.command.command_id)
            if found is not None or time.monotonic() > deadline_s:
                return found
            tell()

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()


def answer(events: Iterable[ModelEvent], command_id: str) -> Answer | None:
    """Return what the control log says of a command, or None where it says nothing yet."""
    made: dict[int, Registered] = {}
    for event in events:
        match event:
            case Registered(command_id=of) if of == command_id:
                made[event.version] = event
            case StageChanged(stage="live" | "shadow", version=version) if version in made:
                found = made[version]
                return Answer(
                    command_id,
                    event.reason,
                    version,
                    found.metrics,
                    found.comparison,
                    event.stage,
                )
            case TrainingRefused(command_id=of) if of == command_id:
                return Answer(command_id, event.reason)
            case _:
                pass
    return None
