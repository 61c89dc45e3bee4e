"""The state of the rollout: a fold over the control log (``P.models.v1``)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.wire import (
    Activated,
    ModelEvent,
    Positions,
    Registered,
    StageChanged,
    TrainingRefused,
)


@dataclass(frozen=True)
class Rollout:
    """What the control log says so far.

    ``live`` is 0 until a first version is live: version 0 is the pipeline's stated prior.
    ``shadows`` maps a version in shadow to the first features offsets it answers.
    ``answered_commands`` are the ids of retrain commands with an outcome.
    """

    versions: dict[int, Registered] = field(default_factory=dict)
    live: int = 0
    shadows: dict[int, Positions] = field(default_factory=dict)
    activated: dict[tuple[int, str, str], Activated] = field(default_factory=dict)
    answered_commands: frozenset[str] = frozenset()

    def apply(self, event: ModelEvent) -> "Rollout":
        """Return the state after ``event``."""
        match event:
            case Registered():
                return replace(self, versions={**self.versions, event.version: event})
            case StageChanged() if event.version not in self.versions:
                return self  # nobody can answer with it; a bad record costs only itself
            case StageChanged(stage="live"):
                answered = self.versions[event.version].command_id
                return replace(
                    self,
                    live=event.version,
                    answered_commands=self.answered_commands | {answered},
                )
            case StageChanged(stage="shadow"):
                shadows = {**self.shadows, event.version: event.since or {}}
                return replace(self, shadows=shadows)
            case StageChanged():
                left = {v: since for v, since in self.shadows.items() if v != event.version}
                return replace(self, shadows=left)
            case Activated():
                key = (event.version, event.stage, event.worker)
                return replace(self, activated={**self.activated, key: event})
            case TrainingRefused():
                done = self.answered_commands | {event.command_id}
                return replace(self, answered_commands=done)

    def apply_all(self, events: Iterable[ModelEvent]) -> "Rollout":
        """Return the state after all ``events``, in log order."""
        state = self
        for event in events:
            state = state.apply(event)
        return state
