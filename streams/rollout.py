"""The state of the rollout: a fold over the control log (``P.models.v1``)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.cutover import Cutovers
from streams.wire import (
    Activated,
    DefinitionActivated,
    DefinitionChanged,
    ModelEvent,
    Positions,
    Registered,
    StageChanged,
    TrainingRefused,
)


@dataclass(frozen=True)
class Rollout:
    """What the control log says so far.

    ``live`` is 0 until a first version is live: version 0 is the pipeline's stated prior. It is the
    version live on the definition ordered last; ``lives`` are those of all definitions.
    ``shadows`` maps a version in shadow to the first features offsets it answers.
    ``answered_commands`` are the ids of retrain commands with an outcome.
    """

    versions: dict[int, Registered] = field(default_factory=dict)
    live: int = 0
    lives: dict[int, int] = field(default_factory=dict)
    cutovers: Cutovers = field(default_factory=Cutovers)
    shadows: dict[int, Positions] = field(default_factory=dict)
    activated: dict[tuple[int, str, str], Activated] = field(default_factory=dict)
    answered_commands: frozenset[str] = frozenset()

    def apply(self, event: ModelEvent) -> "Rollout":
        """Return the state after ``event``."""
        match event:
            case Registered():
                known = self.versions.get(event.version)
                if known is not None and known.command_id != event.command_id:
                    return self  # two took the same number at once; the first has it
                return replace(self, versions={**self.versions, event.version: event})
            case StageChanged() if event.version not in self.versions:
                return self  # nobody can answer with it; a bad record costs only itself
            case StageChanged(stage="live"):
                of = self.versions[event.version]
                ordered = self.cutovers.definition
                return replace(
                    self,
                    live=event.version if ordered in (None, of.definition) else self.live,
                    lives={**self.lives, of.definition: event.version},
                    answered_commands=self.answered_commands | {of.command_id},
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
            case DefinitionChanged():
                orders = self.cutovers.order(event)
                if orders is self.cutovers:
                    return self
                lives = {**self.lives, event.definition: event.model_version}
                return replace(self, live=event.model_version, lives=lives, cutovers=orders)
            case DefinitionActivated():
                return replace(self, cutovers=self.cutovers.activate(event))

    def apply_all(self, events: Iterable[ModelEvent]) -> "Rollout":
        """Return the state after all ``events``, in log order."""
        state = self
        for event in events:
            state = state.apply(event)
        return state
