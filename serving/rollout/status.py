"""Where the rollout stands, for people and scripts: a function of the control log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from serving.rollout.obeying import obeyed
from streams.assignment import arms_of, place_of
from streams.replay import offset_bounds, read_ranges
from streams.rollout import Rollout
from streams.routed import Routed
from streams.topics import Topics
from streams.wire import (
    DefinitionChanged,
    ExperimentStarted,
    ExperimentStopped,
    ModelEvent,
    Pinned,
    Routing,
    StageChanged,
)

_decode = msgspec.json.Decoder(ModelEvent).decode


@dataclass(frozen=True)
class Logged:
    """An event of the control log, where it stands and when the broker got it."""

    offset: int
    time_ms: int
    event: ModelEvent


def read_log(bootstrap: str, topic: str) -> list[Logged]:
    """Return the control log up to now; raises BrokerError where it can't be read."""
    return [
        Logged(offset, time_ms, _decode(value))
        for batch in read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, 1))
        for offset, time_ms, value in zip(
            batch.offsets.tolist(), batch.timestamps_ms.tolist(), batch.values, strict=True
        )
        if value is not None
    ]


def read_status(bootstrap: str, topics: Topics, partitions: int) -> dict[str, Any]:
    """Return the state of a pipeline's rollout as plain JSON values."""
    return status_of(read_log(bootstrap, topics.models), topics.definition, partitions)


def status_of(log: Sequence[Logged], first: int, partitions: int) -> dict[str, Any]:
    """Return the state after a control log; ``first`` is the definition before any order."""
    state, changes = Rollout(), []
    for logged in log:
        after = state.apply(logged.event)
        told = told_of(logged.event)
        if told and after is not state:  # a stale one changed nothing
            changes.append({"offset": logged.offset, "time_ms": logged.time_ms, **told})
        state = after
    definitions = sorted({first, *state.routings})
    return {
        "answering": state.cutovers.definition or first,
        "definitions": [_definition(state, each, partitions) for each in definitions],
        "changes": changes,
    }


def answers_whom(
    events: Sequence[ModelEvent],
    routed: Routed,
    topics: Topics,
    entity: str,
    offset: int | None = None,
    partition: int | None = None,
) -> dict[str, Any]:
    """Return who has to answer an entity now, or had to at a features offset of a partition."""
    state = Rollout().apply_all(events)
    definition = state.cutovers.definition or topics.definition
    if offset is None or partition is None:
        routing, exact = state.routing(definition), True
    else:
        stretch = routed.routing_at(definition, partition, offset)
        routing, exact = stretch.routing, stretch.exact
    return {**_whom(routing, entity), "definition": definition, "exact": exact}


def _whom(routing: Routing, entity: str) -> dict[str, Any]:
    arm = int(arms_of(routing, [entity])[0])
    return {
        "entity": entity,
        "version": routing.live if arm < 0 else routing.arms[arm].version,
        "stage": "live" if arm < 0 else routing.arms[arm].stage,
        "salt": routing.salt,
        "place": place_of(routing.salt, entity) if routing.arms else None,
    }


def _definition(state: Rollout, definition: int, partitions: int) -> dict[str, Any]:
    routing, experiment = state.routing(definition), state.experiment(definition)

    def is_of(version: int) -> bool:
        registered = state.versions.get(version)
        return registered is not None and registered.definition == definition

    shadow = [v for v in sorted(state.shadows) if is_of(v)]
    standing = {routing.live: "live", **{arm.version: arm.stage for arm in routing.arms}}
    standing |= {v: "shadow" for v in shadow if v not in standing}
    return {
        "definition": definition,
        "live": routing.live,
        "arms": [msgspec.to_builtins(arm) for arm in routing.arms],
        "salt": routing.salt,
        "shadow": shadow,
        "experiment": None if experiment is None else experiment.started.name,
        "pinned": state.pinned.get(definition),
        "obeyed": obeyed(state, definition, partitions).done,
        "in_force": {
            str(p): msgspec.to_builtins(r)
            for (d, p), r in sorted(state.in_force.items())
            if d == definition
        },
        "judged": [
            msgspec.structs.asdict(judged)
            for (version, stage), judged in sorted(state.judged.items())
            if standing.get(version) == stage
        ],
    }


def told_of(event: ModelEvent) -> dict[str, Any] | None:
    """Return who changed what and why; None of what is no change."""
    match event:
        case StageChanged():
            share = f" for {event.share:.3g} of the entities" if event.share is not None else ""
            instead = "" if event.instead is None else f", instead {event.instead or 'the prior'}"
            what = f"model {event.version} → {event.stage.replace('_', ' ')}{share}{instead}"
            by = event.by or "trainer"
        case Pinned(version=None):
            what, by = f"definition v{event.definition} is not pinned any more", "operator"
        case Pinned():
            what, by = f"definition v{event.definition} pinned to {event.version}", "operator"
        case ExperimentStarted():
            arms = ", ".join(f"{arm.version} ({arm.share:.3g})" for arm in event.arms)
            what, by = f"experiment {event.name}: {arms} beside {event.control}", "operator"
        case ExperimentStopped():
            what, by = f"experiment {event.name} stopped", "operator"
        case DefinitionChanged():
            what, by = f"definition v{event.before} → v{event.definition}", "operator"
        case _:
            return None
    number = 0 if isinstance(event, DefinitionChanged) else event.change
    return {"change": number, "what": what, "by": by, "reason": event.reason}
