"""Trainings: a fold over the commands and the control log, from being asked for to the version."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.dashboard.documents.alerts import Training, Trainings
from serving.rollout.status import Logged
from streams.rollout import Rollout
from streams.wire import Command, Registered, Retrain, TrainingRefused

KEPT = 300


class TrainingList:
    """Trainings by the command that asked for them, and versions that nobody asked for."""

    def __init__(self) -> None:
        self.revision = 0
        self._found: dict[str, Training] = {}

    def asked(self, time_ms: int, command: Command) -> None:
        """Add a command; only those that ask for a training say something."""
        if not isinstance(command, Retrain):
            return
        # The answer may have been read before: it stands in another topic.
        now = self._found.get(command.command_id) or _new(command.command_id)
        self._put(
            command.command_id,
            now,
            reason=command.reason,
            asked_ms=time_ms,
            cutoff_ms=command.cutoff_ms,
        )

    def take(self, logged: Logged) -> None:
        """Add a record of the control log that counts."""
        match logged.event:
            case Registered() as event:
                key = event.command_id or f"version {event.version}"
                now = self._found.get(key)
                if now is not None and now.version not in (None, event.version):
                    # One command, several versions: those that are learned online.
                    key, now = f"{key}/{event.version}", None
                parent = event.manifest.get("parent")
                self._put(
                    key,
                    now or _new(event.command_id),
                    state="registered",
                    at_ms=logged.time_ms,
                    cutoff_ms=event.manifest.get("cutoff_ms"),
                    version=event.version,
                    definition=event.definition,
                    parent=parent.get("version") if isinstance(parent, dict) else None,
                    rows=_rows(event.manifest),
                    metrics=event.metrics,
                    comparison=event.comparison,
                    run_id=event.run_id,
                )
            case TrainingRefused() as event:
                now = self._found.get(event.command_id) or _new(event.command_id)
                if now.version is None:
                    self._put(
                        event.command_id,
                        now,
                        state="refused",
                        at_ms=logged.time_ms,
                        refusal=event.reason,
                    )
            case _:
                pass

    def whole(self, rollout: Rollout) -> Trainings:
        """Return the trainings, the newest first; the stages are those of ``rollout``."""
        found = [
            msgspec.structs.replace(t, stage=_stage(rollout, t.version))
            for t in self._found.values()
        ]
        found.sort(key=lambda t: (t.at_ms or t.asked_ms or 0, t.version or 0), reverse=True)
        return Trainings(revision=self.revision, trainings=found)

    def _put(self, key: str, now: Training, **told: Any) -> None:
        self.revision += 1
        self._found.pop(key, None)
        self._found[key] = msgspec.structs.replace(now, **told)
        if len(self._found) > KEPT:
            del self._found[next(iter(self._found))]


def _new(command_id: str) -> Training:
    return Training(
        command_id, "asked", "", None, None, None, None, None, None, None, None, {}, None, None,
        None,
    )  # fmt: skip


def _stage(rollout: Rollout, version: int | None) -> Any:
    if version is None:
        return None
    definition = rollout.versions[version].definition if version in rollout.versions else 0
    if version == rollout.routing(definition).live:
        return "live"
    return rollout.stages.get(version)


def _rows(manifest: dict[str, Any]) -> int | None:
    counts = manifest.get("counts")
    rows = counts.get("examples") if isinstance(counts, dict) else None
    return rows if isinstance(rows, int) else None
