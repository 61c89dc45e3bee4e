"""The state of the rollout: a fold over the control log (``P.models.v1``).

Changes are numbered (``change``): one counts only if its number is the next, so that whoever
decides on a state that has changed meanwhile decides nothing. What names a version that is not
registered counts nothing either: a bad record costs only itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.cutover import Cutovers
from streams.rollout_changes import Change, Experiment, change, definition_of, with_live
from streams.wire import (
    Activated,
    Arm,
    DefinitionActivated,
    DefinitionChanged,
    ExperimentStarted,
    ExperimentStopped,
    Judged,
    ModelEvent,
    Pinned,
    Positions,
    Registered,
    Routing,
    Stage,
    StageChanged,
    TrainingRefused,
)

__all__ = ["Change", "Experiment", "Rollout"]


@dataclass(frozen=True)
class Rollout:
    """What the control log says so far.

    ``live`` is 0 until a first version is live: version 0 is the pipeline's stated prior. It is the
    version live on the definition ordered last; ``routings`` are those of all definitions, and
    ``before`` the versions that were live on one before, the latest last.
    ``stages`` maps a version to the stage it is in (absent: registered only), ``shadows`` a version
    in shadow to the first features offsets it answers. ``pinned`` is definition → version.
    ``change`` is the number of the last change, ``judged`` what the policy said last.
    ``in_force`` says by (definition, partition of its features) who answers whom there by now, as
    the workers say; absent: the prior answers. ``activated`` is the newest record of a version, a
    stage that it answers in, and a worker.
    ``answered_commands`` are the ids of retrain commands with an outcome.
    """

    versions: dict[int, Registered] = field(default_factory=dict)
    live: int = 0
    routings: dict[int, Routing] = field(default_factory=dict)
    before: dict[int, tuple[int, ...]] = field(default_factory=dict)
    stages: dict[int, Stage] = field(default_factory=dict)
    pinned: dict[int, int] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)
    judged: dict[tuple[int, str], Judged] = field(default_factory=dict)
    change: int = 0
    cutovers: Cutovers = field(default_factory=Cutovers)
    shadows: dict[int, Positions] = field(default_factory=dict)
    activated: dict[tuple[int, str, str], Activated] = field(default_factory=dict)
    in_force: dict[tuple[int, int], Routing] = field(default_factory=dict)
    answered_commands: frozenset[str] = frozenset()

    @property
    def lives(self) -> dict[int, int]:
        """Definition → the version live on it."""
        return {definition: routing.live for definition, routing in self.routings.items()}

    @property
    def next_change(self) -> int:
        """The number that the next change has to carry."""
        return self.change + 1

    def canary(self, definition: int) -> Arm | None:
        """Return the version in canary on a definition."""
        arms = self.routing(definition).arms
        return next((arm for arm in arms if arm.stage == "canary"), None)

    def experiment(self, definition: int) -> Experiment | None:
        """Return the experiment that runs on a definition."""
        running = (e for e in self.experiments.values() if e.stopped is None)
        return next((e for e in running if e.started.definition == definition), None)

    def routing(self, definition: int) -> Routing:
        """Return who answers whom on a definition."""
        return self.routings.get(definition, Routing(0))

    def apply(self, event: ModelEvent) -> "Rollout":
        """Return the state after ``event``."""
        match event:
            case StageChanged() | Pinned() | ExperimentStarted() | ExperimentStopped():
                if event.change not in (0, self.next_change):
                    return self  # decided on a state that had changed
                changed = change(self, event)
                if changed is self or not event.change:
                    return changed
                return replace(changed, change=event.change)
            case Registered():
                known = self.versions.get(event.version)
                if known is not None and known.command_id != event.command_id:
                    return self  # two took the same number at once; the first has it
                return replace(self, versions={**self.versions, event.version: event})
            case Judged():
                judged = {**self.judged, (event.version, event.stage): event}
                return replace(self, judged=judged)
            case Activated():
                return _activated(self, event)
            case TrainingRefused():
                done = self.answered_commands | {event.command_id}
                return replace(self, answered_commands=done)
            case DefinitionChanged():
                orders = self.cutovers.order(event)
                if orders is self.cutovers:
                    return self
                state = with_live(self, event.definition, event.model_version)
                return replace(state, live=event.model_version, cutovers=orders)
            case DefinitionActivated():
                return replace(self, cutovers=self.cutovers.activate(event))

    def apply_all(self, events: Iterable[ModelEvent]) -> "Rollout":
        """Return the state after all ``events``, in log order."""
        state = self
        for event in events:
            state = state.apply(event)
        return state


def _activated(state: Rollout, event: Activated) -> Rollout:
    arms = () if event.routing is None else event.routing.arms
    by = {(event.version, event.stage), *((arm.version, arm.stage) for arm in arms)}
    activated = {**state.activated}
    for version, stage in by:
        activated[version, stage, event.worker] = event
    definition = event.definition or definition_of(state, event.version)
    if event.stage != "live" or definition is None:
        return replace(state, activated=activated)
    routing = event.routing or Routing(event.version)
    in_force = {(definition, int(p)): routing for p in event.positions if p.isdecimal()}
    return replace(state, activated=activated, in_force={**state.in_force, **in_force})
