"""Changing the rollout: the one way in which anybody does, so that of two who decide at once on the
same state one counts and the other decides anew.

A change carries the number that follows the last one of the state it was decided on. It is
appended, and the log is read on up to it: where another's change came first, it was decided on a
state that is past, counts for nobody, and is decided again on what the log says now.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import msgspec

from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import BrokerError, ConfigurationError
from streams.rollout import Change, Rollout

ATTEMPTS = 100


class Changes:
    """Follows the control log ``topic``, and appends changes to it.

    Raises:
        BrokerError: the log can't be read or written.
    """

    def __init__(self, bootstrap: str, topic: str, rollout: Rollout | None = None) -> None:
        self.rollout = rollout or Rollout()
        self.topic = topic
        self._follower = ControlFollower(bootstrap, topic)
        self._writer = ControlWriter(bootstrap)

    def follow(self) -> Rollout:
        """Return the state at the log's end."""
        return self._take(self._follower.catch_up())

    def poll(self, timeout_s: float) -> Rollout:
        """Return the state after what came since; waits up to ``timeout_s`` for something."""
        return self._take(self._follower.poll(timeout_s))

    def decide(self, decision: Callable[[Rollout], Change | None]) -> Change | None:
        """Append what ``decision`` returns of the state, and return it, numbered, once it counts.

        ``decision`` is asked again where another change came first; None decides on nothing.

        Raises:
            ConfigurationError: the state does not allow the change, such as that of a version
                which is not registered.
        """
        self.follow()
        for _ in range(ATTEMPTS):
            before = self.rollout
            event = decision(before)
            if event is None:
                return None
            event = msgspec.structs.replace(event, change=before.next_change)
            if before.apply(event) is before or before.apply(event).change != event.change:
                raise ConfigurationError(
                    f"{self.topic}: the rollout does not allow {msgspec.to_builtins(event)}"
                )
            offset = self._writer.append_model_event(self.topic, event, uuid4().hex)
            if self._counted(event, offset):
                return event
        raise BrokerError(f"{self.topic}: {ATTEMPTS} changes came in between, one after the other")

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()

    def _counted(self, event: Change, offset: int) -> bool:
        """Read on up to the event; return whether it is the one that took its number."""
        taken: Change | None = None
        for found in decode_model_events(self._follower.read_to(offset + 1)):
            before, self.rollout = self.rollout.change, self.rollout.apply(found)
            if self.rollout.change == event.change > before and isinstance(found, Change):
                taken = found
        return taken == event

    def _take(self, values: list[bytes]) -> Rollout:
        self.rollout = self.rollout.apply_all(decode_model_events(values))
        return self.rollout
