"""What the learner does to the control log: versions registered and staged, each exactly once.

A version's command id names the outcomes that it learned from, so whoever does the same again after
a crash finds it in the log. A change of who answers is decided on the log as it is when it counts
(:mod:`streams.changes`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
from msgspec.structs import replace

from serving.online.lineage import is_learned, trained_version
from streams.changes import Changes
from streams.rollout import Rollout
from streams.wire import Registered, StageChanged
from training.retraining.job import TrainedModel
from training.retraining.registering import Registry

BY = "online"
_ANSWERING = ("live", "shadow", "canary", "experiment")

_LOG = structlog.get_logger(__name__)


class Versions:
    """Follows and writes the control log of a pipeline."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._registry = Registry(bootstrap, topic)
        self._changes = Changes(bootstrap, topic)

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
        return trained_version(self.rollout, self.rollout.routing(definition).live)

    def of_command(self, command_id: str) -> Registered | None:
        """Return the version that a command made."""
        return next((v for v in self.rollout.versions.values() if v.command_id == command_id), None)

    def register(self, trained: TrainedModel, command_id: str) -> Registered:
        """Return the version of the command, registered now if it is not yet."""
        self.follow()
        known = self.of_command(command_id)
        return known or self._registry.register(trained, command_id, lambda: None)

    def stage(self, change: StageChanged, still: Callable[[Rollout], bool]) -> bool:
        """Change the stage of a version where that is ``still`` right by the log as it is then;
        return whether it was. A pin forbids what would change what is live.

        Raises:
            BrokerError: the log can't be written, or others change it without end.
        """

        def decision(rollout: Rollout) -> StageChanged | None:
            numbered = replace(change, change=rollout.next_change)
            if not still(rollout):
                return None
            if rollout.apply(numbered).change == rollout.change:
                _LOG.info("held back by a pin", version=change.version, stage=change.stage)
                return None
            return change

        changed = self._changes.decide(decision) is not None
        self.follow()
        return changed

    def learned(self, base: int) -> list[Registered]:
        """Return the versions learned from a base, the oldest first."""
        return [
            event
            for _, event in sorted(self.rollout.versions.items())
            if is_learned(event) and event.manifest["parent"]["version"] == base
        ]

    def prune(self, models: Path, keep: int, also: Collection[int]) -> list[int]:
        """Remove packages of online versions that nobody needs; return the versions.

        Kept are the last ``keep``, those in a stage in which they answer, those that were live
        last, and ``also``.
        """
        rollout = self.rollout
        online = [v for v, e in sorted(rollout.versions.items()) if is_learned(e)]
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
        self._changes.close()
        self._registry.close()
