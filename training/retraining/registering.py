"""Giving a trained model its version number, in the control log."""

from __future__ import annotations

from collections.abc import Callable

from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.rollout import Rollout
from streams.wire import Registered
from training.retraining.job import TrainedModel


class Registry:
    """Follows the control log of a pipeline, and appends models to it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.rollout = Rollout()
        self._topic = topic
        self._follower = ControlFollower(bootstrap, topic)
        self._writer = ControlWriter(bootstrap)

    def follow(self) -> Rollout:
        """Return the state at the log's end.

        Raises:
            BrokerError: the log can't be read.
        """
        events = decode_model_events(self._follower.catch_up())
        self.rollout = self.rollout.apply_all(events)
        return self.rollout

    def register(
        self, trained: TrainedModel, command_id: str, run_id: Callable[[], str | None]
    ) -> Registered:
        """Append the model under the next free number, and return the record.

        Of two that take the same number at once the first in the log has it; the other one sees
        that when it reads on, and takes the next.

        Raises:
            BrokerError: the log can't be written or read.
        """
        found = run_id()
        self.follow()
        while True:
            event = Registered(
                version=max(self.rollout.versions, default=0) + 1,
                command_id=command_id,
                uri=trained.package.as_uri(),
                sha256=trained.sha256,
                manifest=trained.manifest,
                metrics=trained.metrics,
                run_id=found,
                definition=trained.definition,
                comparison=None if trained.comparison is None else trained.comparison.to_json(),
            )
            at = self._writer.append_model_event(self._topic, event)
            # It may stand behind a transaction that is still open, hidden from readers.
            self.rollout = self.rollout.apply_all(
                decode_model_events(self._follower.read_to(at + 1))
            )
            if self.rollout.versions[event.version].command_id == command_id:
                return event

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()
