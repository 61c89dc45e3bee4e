"""The state of the rollout: a fold over the control log (``P.models.v1``).

Changes are numbered (``change``): one counts only if its number is the next, so that whoever
decides on a state that has changed meanwhile decides nothing. What names a version that is not
registered counts nothing either: a bad record costs only itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.cutover import Cutovers
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


@dataclass(frozen=True)
class Experiment:
    """An A/B experiment, running until ``stopped``."""

    started: ExperimentStarted
    stopped: ExperimentStopped | None = None


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
    definition = event.definition or _definition_of(state, event.version)
    if event.stage != "live" or definition is None:
        return replace(state, activated=activated)
    routing = event.routing or Routing(event.version)
    in_force = {(definition, int(p)): routing for p in event.positions if p.isdecimal()}
    return replace(state, activated=activated, in_force={**state.in_force, **in_force})


Change = StageChanged | Pinned | ExperimentStarted | ExperimentStopped


def change(state: Rollout, event: Change) -> Rollout:
    """Return the state after a change of who answers; ``state`` itself where it can't be."""
    match event:
        case Pinned(version=None):
            left = {d: v for d, v in state.pinned.items() if d != event.definition}
            return replace(state, pinned=left)
        case Pinned():
            return _pinned(state, event.definition, event.version or 0)
        case ExperimentStarted():
            return _started(state, event)
        case ExperimentStopped():
            running = state.experiments.get(event.name)
            if running is None or running.stopped is not None:
                return state
            return _without_experiment(state, running, event)
        case StageChanged():
            return _staged(state, event)


def with_live(state: Rollout, definition: int, version: int) -> Rollout:
    """Return the state in which ``version`` answers all of a definition: no arm is left."""
    running = state.experiment(definition)
    if running is not None:
        why = f"model {version} went live"
        state = _without_experiment(state, running, ExperimentStopped(running.started.name, why))
    routing = state.routing(definition)
    before = state.before.get(definition, ())
    stages: dict[int, Stage] = {**state.stages}
    for arm in routing.arms:
        stages[arm.version] = "retired"
    if routing.live and routing.live != version:
        stages[routing.live] = "retired"
        before = (*before, routing.live)
    if version:
        stages[version] = "live"
    ordered = state.cutovers.definition
    return replace(
        state,
        live=version if ordered in (None, definition) else state.live,
        routings={**state.routings, definition: Routing(version)},
        before={**state.before, definition: before},
        stages=stages,
        shadows=_without(state.shadows, version),
    )


def _pinned(state: Rollout, definition: int, version: int) -> Rollout:
    if version and definition != _definition_of(state, version):
        return state
    pinned = {**state.pinned, definition: version}
    return replace(with_live(state, definition, version), pinned=pinned)


def _staged(state: Rollout, event: StageChanged) -> Rollout:
    definition = _definition_of(state, event.version)
    if definition is None:
        return state
    held = _is_held(state, definition, event)
    # The outcome of a training, whatever a pin makes of it; others' held changes are none at all.
    if event.by == "trainer" or (event.stage == "live" and not (held and event.by)):
        done = state.answered_commands | {state.versions[event.version].command_id}
        state = replace(state, answered_commands=done)
    if held:
        return state
    stages: dict[int, Stage] = {**state.stages, event.version: event.stage}
    match event.stage:
        case "live":
            return with_live(state, definition, event.version)
        case "shadow":
            shadows = {**state.shadows, event.version: event.since or {}}
            if state.stages.get(event.version) in ("live", "canary", "experiment"):
                stages = state.stages  # it answers in shadow too, for comparison
            return replace(state, shadows=shadows, stages=stages)
        case "canary":
            routing = state.routing(definition)
            others = [arm for arm in routing.arms if arm.version != event.version]
            if others or event.version == routing.live or not _is_share(event.share):
                return state  # one at a time, and not beside itself
            arm = Arm(event.version, "canary", event.share or 0.0)
            beside = Routing(routing.live, event.salt or routing.salt, (arm,))
            return replace(state, routings={**state.routings, definition: beside}, stages=stages)
        case "experiment":
            return state  # by ExperimentStarted
        case _:
            return _withdrawn(state, definition, event, stages)


def _withdrawn(
    state: Rollout, definition: int, event: StageChanged, stages: dict[int, Stage]
) -> Rollout:
    """Return the state in which the version answers nobody."""
    routing = state.routing(definition)
    version = event.version
    if routing.live == version:
        instead = event.instead
        if event.stage != "rolled_back" or instead is None or instead == version:
            # It goes on answering: nobody is named in its place. Only the shadow ends.
            return replace(state, shadows=_without(state.shadows, version))
        if instead and _definition_of(state, instead) != definition:
            return state
        state = with_live(state, definition, instead)
        before = tuple(v for v in state.before[definition] if v != version)
        state = replace(state, before={**state.before, definition: before})
        return replace(
            state,
            stages={**state.stages, version: event.stage},
            shadows=_without(state.shadows, version),
        )
    running = state.experiment(definition)
    if running is not None and any(arm.version == version for arm in routing.arms):
        why = f"model {version} was {event.stage.replace('_', ' ')}"
        state = _without_experiment(state, running, ExperimentStopped(running.started.name, why))
    arms = tuple(a for a in state.routing(definition).arms if a.version != version)
    left = Routing(routing.live, routing.salt if arms else "", arms)
    return replace(
        state,
        routings={**state.routings, definition: left} if routing.arms else state.routings,
        stages=stages,
        shadows=_without(state.shadows, version),
    )


def _started(state: Rollout, event: ExperimentStarted) -> Rollout:
    routing = state.routing(event.definition)
    of = {_definition_of(state, arm.version) for arm in event.arms}
    shares = [arm.share for arm in event.arms]
    fits = all(map(_is_share, shares)) and sum(shares) <= 1 + 1e-9
    if (
        event.name in state.experiments
        or routing.arms
        or routing.live != event.control
        or of != {event.definition}
        or not fits
        or event.control in [arm.version for arm in event.arms]
    ):
        return state
    stages: dict[int, Stage] = {**state.stages}
    for arm in event.arms:
        stages[arm.version] = "experiment"
    beside = Routing(routing.live, event.salt, event.arms)
    return replace(
        state,
        routings={**state.routings, event.definition: beside},
        experiments={**state.experiments, event.name: Experiment(event)},
        stages=stages,
    )


def _without_experiment(state: Rollout, running: Experiment, event: ExperimentStopped) -> Rollout:
    definition = running.started.definition
    stages: dict[int, Stage] = {**state.stages}
    for arm in running.started.arms:
        stages[arm.version] = "retired"
    return replace(
        state,
        routings={**state.routings, definition: Routing(state.routing(definition).live)},
        experiments={**state.experiments, event.name: replace(running, stopped=event)},
        stages=stages,
    )


def _is_held(state: Rollout, definition: int, event: StageChanged) -> bool:
    """Whether a pin forbids the change."""
    if definition not in state.pinned or event.by == "operator":
        return False
    return event.stage in ("live", "canary") or event.version == state.pinned[definition]


def _definition_of(state: Rollout, version: int) -> int | None:
    registered = state.versions.get(version)
    return None if registered is None else registered.definition


def _is_share(share: float | None) -> bool:
    return share is not None and 0 < share <= 1


def _without(shadows: dict[int, Positions], version: int) -> dict[int, Positions]:
    return {v: since for v, since in shadows.items() if v != version}
