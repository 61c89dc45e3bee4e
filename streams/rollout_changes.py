"""What a change makes of the rollout: who is live, which arms answer beside, what is pinned.

Each function returns the state after it, or the very same state where the change can't be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streams.wire import (
    Arm,
    ExperimentStarted,
    ExperimentStopped,
    Pinned,
    Positions,
    Routing,
    Stage,
    StageChanged,
)

if TYPE_CHECKING:
    from streams.rollout import Rollout

Change = StageChanged | Pinned | ExperimentStarted | ExperimentStopped


@dataclass(frozen=True)
class Experiment:
    """An A/B experiment, running until ``stopped``."""

    started: ExperimentStarted
    stopped: ExperimentStopped | None = None


def change(state: Rollout, event: Change) -> Rollout:
    """Return the state after a change of who answers; ``state`` itself where it can't be."""
    match event:
        case Pinned(version=None):
            if event.definition not in state.pinned:
                return state
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
    """Return the state in which ``version`` answers all of a definition: no arm is left.

    A definition that is pinned is pinned to it: only the operator's changes come here then.
    """
    running = state.experiment(definition)
    if running is not None:
        why = f"model {version} went live"
        state = _without_experiment(state, running, ExperimentStopped(running.started.name, why))
    routing = state.routing(definition)
    before = state.before.get(definition, ())
    stages: dict[int, Stage] = {**state.stages}
    for arm in routing.arms:
        stages[arm.version] = _left(state, arm.version)
    if routing.live and routing.live != version:
        stages[routing.live] = _left(state, routing.live)
        before = (*before, routing.live)
    if version:
        stages[version] = "live"
    ordered = state.cutovers.definition
    pinned = {**state.pinned, definition: version} if definition in state.pinned else state.pinned
    return replace(
        state,
        live=version if ordered in (None, definition) else state.live,
        routings={**state.routings, definition: Routing(version)},
        before={**state.before, definition: before},
        stages=stages,
        pinned=pinned,
        shadows=_without(state.shadows, version),
    )


def definition_of(state: Rollout, version: int) -> int | None:
    """Return the definition whose features a registered version answers."""
    registered = state.versions.get(version)
    return None if registered is None else registered.definition


def _pinned(state: Rollout, definition: int, version: int) -> Rollout:
    if version and definition != definition_of(state, version):
        return state
    if version != state.routing(definition).live or state.routing(definition).arms:
        state = with_live(state, definition, version)
    return replace(state, pinned={**state.pinned, definition: version})


def _staged(state: Rollout, event: StageChanged) -> Rollout:
    definition = definition_of(state, event.version)
    if definition is None:
        return state
    held = _is_held(state, definition, event)
    # The outcome of a training, whatever a pin makes of it; others' held changes are none at all.
    if event.by == "trainer" or (event.stage == "live" and not (held and event.by)):
        done = state.answered_commands | {state.versions[event.version].command_id}
        state = replace(state, answered_commands=done)
    if held:
        return state
    match event.stage:
        case "live":
            return with_live(state, definition, event.version)
        case "shadow":
            return _in_shadow(state, event)
        case "canary":
            return _in_canary(state, definition, event)
        case "experiment":
            return state  # by ExperimentStarted
        case "retired" | "rolled_back":
            return _withdrawn(state, definition, event)


def _in_shadow(state: Rollout, event: StageChanged) -> Rollout:
    stages: dict[int, Stage] = {**state.stages}
    if state.stages.get(event.version) not in ("live", "canary", "experiment"):
        stages[event.version] = "shadow"  # else it answers in shadow too, for comparison
    shadows = {**state.shadows, event.version: event.since or {}}
    return replace(state, shadows=shadows, stages=stages)


def _in_canary(state: Rollout, definition: int, event: StageChanged) -> Rollout:
    """Return the state with the version's share; one that grows keeps the entities it has."""
    routing, now = state.routing(definition), state.canary(definition)
    if (
        state.experiment(definition) is not None
        or (now is not None and now.version != event.version)
        or event.version == routing.live
        or not _is_share(event.share)
    ):
        return state  # one at a time, and not beside itself
    salt = routing.salt if now is not None else event.salt
    arm = Arm(event.version, "canary", event.share or 0.0)
    beside = Routing(routing.live, salt or f"canary-{event.version}-{event.change}", (arm,))
    return replace(
        state,
        routings={**state.routings, definition: beside},
        stages={**state.stages, event.version: "canary"},
    )


def _withdrawn(state: Rollout, definition: int, event: StageChanged) -> Rollout:
    """Return the state in which the version answers nobody."""
    version = event.version
    if state.routing(definition).live == version:
        instead = event.instead
        if event.stage != "rolled_back" or instead is None or instead == version:
            if version not in state.shadows:
                return state
            # It goes on answering: nobody is named in its place. Only the shadow ends.
            return replace(state, shadows=_without(state.shadows, version))
        if instead and definition_of(state, instead) != definition:
            return state
        turns = state.before.get(definition, ())
        state = with_live(state, definition, instead)
        turns = _before_turn(turns, instead) if instead else ()
        state = replace(state, before={**state.before, definition: turns})
    running = state.experiment(definition)
    if running is not None and any(arm.version == version for arm in running.started.arms):
        why = f"model {version} was {event.stage.replace('_', ' ')}"
        state = _without_experiment(state, running, ExperimentStopped(running.started.name, why))
    routing = state.routing(definition)
    if any(arm.version == version for arm in routing.arms):
        state = replace(state, routings={**state.routings, definition: Routing(routing.live)})
    if event.stage == "rolled_back":  # nothing falls back on it
        before = tuple(v for v in state.before.get(definition, ()) if v != version)
        state = replace(state, before={**state.before, definition: before})
    return replace(
        state,
        stages={**state.stages, version: event.stage},
        shadows=_without(state.shadows, version),
    )


def _started(state: Rollout, event: ExperimentStarted) -> Rollout:
    routing = state.routing(event.definition)
    versions = [arm.version for arm in event.arms]
    shares = [arm.share for arm in event.arms]
    if (
        event.name in state.experiments
        or routing.arms
        or routing.live != event.control
        or {definition_of(state, version) for version in versions} != {event.definition}
        or len({*versions, event.control}) != len(versions) + 1
        or any(arm.stage != "experiment" for arm in event.arms)
        or not all(map(_is_share, shares))
        or sum(shares) > 1 + 1e-9
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
        stages[arm.version] = _left(state, arm.version)
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


def _left(state: Rollout, version: int) -> Stage:
    """Return where a version stands that answers nobody any more."""
    return "shadow" if version in state.shadows else "retired"


def _before_turn(turns: tuple[int, ...], version: int) -> tuple[int, ...]:
    """Return the versions that were live before the last turn of ``version``, or all."""
    if version not in turns:
        return turns
    return turns[: len(turns) - 1 - turns[::-1].index(version)]


def _is_share(share: float | None) -> bool:
    return share is not None and 0 < share <= 1


def _without(shadows: dict[int, Positions], version: int) -> dict[int, Positions]:
    return {v: since for v, since in shadows.items() if v != version}
