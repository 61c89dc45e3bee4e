"""What the learner does to the control log: versions registered and staged, each exactly once.

A version's command id names the outcomes that it learned from, so whoever does the same again after
a crash finds it in the log. Changes of who answers are numbered: one decided on an old state counts
nothing, and is decided again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from streams.control import ControlWriter
from streams.errors import BrokerError
from streams.rollout import Rollout
from streams.wire import Positions, Registered, Stage, StageChanged
from training.retraining.job import TrainedModel
from training.retraining.registering import Registry

MANIFEST_KEY = "online"
BY = "online"
TRIES = 20
_ANSWERING = ("live", "shadow", "canary", "experiment")

_LOG = structlog.get_logger(__name__)


class Versions:
    """Follows and writes the control log of a pipeline."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._registry = Registry(bootstrap, topic)
        self._writer = ControlWriter(bootstrap)

    @property
    def rollout(self) -> Rollout:
        """What the log said when it was last read."""
        return self._registry.rollout

    def follow(self) -> Rollout:
        """Return what the log says now."""
        return self._registry.follow()

    def base(self, definition: int) -> Registered | None:
        """Return the trained version to learn from: the live one, or the one that the live one has
        learned from; None while the prior answers."""
        live = self.rollout.versions.get(self.rollout.routing(definition).live)
        if live is None or MANIFEST_KEY not in live.manifest:
            return live
        return self.rollout.versions.get(int(live.manifest["parent"]["version"]))

    def of_command(self, command_id: str) -> Registered | None:
        """Return the version that a command made."""
        return next((v for v in self.rollout.versions.values() if v.command_id == command_id), None)

    def register(self, trained: TrainedModel, command_id: str) -> Registered:
        """Return the version of the command, registered now if it is not yet."""
        self.follow()
        known = self.of_command(command_id)
        return known or self._registry.register(trained, command_id, lambda: None)

    def stage(
        self,
        version: int,
        stage: Stage,
        reason: str,
        *,
        since: Positions | None = None,
        instead: int | None = None,
        evidence: dict[str, Any] | None = None,
    ) -> bool:
        """Bring a version into a stage; return False where a pin forbids it.

        Raises:
            BrokerError: the log can't be written, or others change it without end.
        """
        for _ in range(TRIES):
            before = self.follow()
            change = StageChanged(
                version, stage, reason, since, instead=instead, by=BY, evidence=evidence,
                change=before.next_change,
            )  # fmt: skip
            if before.apply(change).change == before.change:
                _LOG.info("held back by a pin", version=version, stage=stage)
                return False
            self._writer.append_model_event(self._topic, change)
            after = self.follow()
            if _stands(after, version, stage):
                return True
        raise BrokerError(
            f"{self._topic}: model {version} can't be brought into stage {stage}: others change "
            f"the log each time; tried {TRIES} times"
        )

    def learned(self, base: int) -> list[Registered]:
        """Return the versions learned from a base, the oldest first."""
        return [
            event
            for _, event in sorted(self.rollout.versions.items())
            if MANIFEST_KEY in event.manifest and event.manifest["parent"]["version"] == base
        ]

    def prune(self, models: Path, keep: int, also: Collection[int]) -> list[int]:
        """Remove packages of online versions that nobody needs; return the versions.

        Kept are the last ``keep``, those in a stage in which they answer, those that were live
        last, and ``also``.
        """
        rollout = self.rollout
        online = [v for v, e in sorted(rollout.versions.items()) if MANIFEST_KEY in e.manifest]
        kept = {*online[-keep:], *also}
        kept |= {v for v, stage in rollout.stages.items() if stage in _ANSWERING}
        kept |= {before[-1] for before in rollout.before.values() if before}
        gone = []
        for version in online:
            folder = Path(unquote(urlsplit(rollout.versions[version].uri).path))
            if version not in kept and folder.parent == models and folder.is_dir():
                shutil.rmtree(folder)
                gone.append(version)
        return gone

    def close(self) -> None:
        """Close the connection."""
        self._registry.close()


def _stands(rollout: Rollout, version: int, stage: Stage) -> bool:
    if stage == "shadow":
        return version in rollout.shadows
    return rollout.stages.get(version) == stage
