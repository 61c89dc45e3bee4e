"""Which model is live, and what it looked like in training: follows the models topic."""

from __future__ import annotations

import time

from serving.monitoring.judging import LiveModel
from serving.online.lineage import trained_version
from streams.control import ControlFollower, decode_model_events
from streams.errors import BrokerError
from streams.rollout import Rollout
from training.package import load_reference
from training.reference import Reference

POLL_S = 0.01
STALL_S = 30.0


class LiveModels:
    """Follows the control log of the versions; ``live`` is the version now judged by.

    Raises:
        BrokerError: the topic can't be read.
        ModelError: the package of a version is missing or damaged.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.live = LiveModel()
        self._topic = topic
        self._follower = ControlFollower(bootstrap, topic)
        self._rollout = Rollout().apply_all(decode_model_events(self._follower.catch_up()))

    @property
    def definition(self) -> int | None:
        """The definition that was ordered last; None where there was no order."""
        return self._rollout.cutovers.definition

    def model(self, version: int) -> LiveModel | None:
        """Return what ``version`` is compared with; None where no such version is known."""
        reference = self._reference(version)
        return None if reference is None else self._live_model(version, reference)

    def _live_model(self, version: int, reference: Reference) -> LiveModel:
        metrics = self._rollout.versions[version].metrics
        return LiveModel(version, reference.expected, metrics, reference)

    def _reference(self, version: int) -> Reference | None:
        """Return what the training of ``version`` saw.

        That of one that was learned online is its base's, whose package stays where it is.
        """
        registered = trained_version(self._rollout, version)
        return None if registered is None else load_reference(registered.uri, registered.sha256)

    def share_bins(self, one: int, other: int) -> bool:
        """Return whether two versions are compared with the same training."""
        trained = trained_version(self._rollout, one)
        return trained is not None and trained == trained_version(self._rollout, other)

    def follow(self, end: int) -> LiveModel | None:
        """Read the log up to offset ``end``; return the model where it is newly live."""
        values = self._follower.poll()
        deadline_s = time.monotonic() + STALL_S
        while self._follower.position < end:
            values += self._follower.poll(POLL_S)
            if time.monotonic() > deadline_s:
                raise BrokerError(f"{self._topic} does not reach offset {end} in {STALL_S:.0f} s")
        self._rollout = self._rollout.apply_all(decode_model_events(values))
        version = self._rollout.live
        newly = None if version == self.live.version else self.model(version)
        if newly is not None:
            self.live = newly
        elif version == 0:
            self.live = LiveModel()
        return newly

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()
