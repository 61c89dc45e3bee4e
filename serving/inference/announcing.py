"""What a worker tells the control log of who answers, and when it has to.

The record goes into the transaction that commits the first answers under it, or, where nothing
comes, into one with the positions alone: so it holds exactly under crashes, and a worker whose
partitions went to another can't say anything. Nobody else speaks for a partition that is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from serving.inference.stretches import Outgoing, Place, Position
from streams.rollout import Rollout
from streams.wire import (
    Activated,
    DefinitionActivated,
    Positions,
    Routing,
    Stage,
    model_event_key,
)

PRIOR = Routing(0)


@dataclass(frozen=True)
class News:
    """Records of the control log, and the positions that must commit with them."""

    events: list[Activated] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    reached: dict[Place, Position] = field(default_factory=dict)


def control_records(topic: str, events: Sequence[Activated | DefinitionActivated]) -> Outgoing:
    """Return the events as records of the control log ``topic``."""
    n = len(events)
    return Outgoing(
        topic=topic,
        partition=0,
        keys=list(map(model_event_key, events)),
        values=list(map(msgspec.json.encode, events)),
        timestamps_ms=[0] * n,  # now, as the client has it
        headers=[[]] * n,
    )


class Announcer:
    """Knows what the log says of the partitions that ``worker`` holds."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._said: dict[tuple[int, int], Routing] = {}
        self._shadows: dict[int, dict[str, Positions]] = {}

    def settle(self, rollout: Rollout) -> None:
        """Begin anew from what the log says: partitions have come or gone."""
        self._said = dict(rollout.in_force)

    def follow(self, event: Activated) -> None:
        """Take in what any worker says, as the log has it."""
        if event.stage == "shadow":
            self._shadows.setdefault(event.version, {})[event.worker] = event.positions

    def begins(self, version: int) -> None:
        """A new turn of a version in shadow: what was said of an earlier one counts no more."""
        self._shadows.pop(version, None)

    def done(self, events: Sequence[Activated]) -> None:
        """Take note of what this worker has said."""
        for event in events:
            self.follow(event)
            if event.stage == "live" and event.routing is not None and event.definition is not None:
                for partition in event.positions:
                    self._said[event.definition, int(partition)] = event.routing

    def live(
        self, definition: int, routing: Routing, positions: Mapping[int, int]
    ) -> list[Activated]:
        """Return what is to be said where ``routing`` answers a definition from here on.

        ``positions`` are the next offsets of the partitions read of its features.
        """
        news: Positions = {
            str(partition): offset
            for partition, offset in sorted(positions.items())
            if self._said.get((definition, partition), PRIOR) != routing
        }
        if not news:
            return []
        return [Activated(routing.live, "live", self._worker, news, routing, definition)]

    def shadow(
        self, version: int, since: Positions, positions: Mapping[int, int], stage: Stage = "shadow"
    ) -> list[Activated]:
        """Return what is to be said of a version in shadow, which answers from ``since`` on."""
        turn = self._shadows.get(version, {})
        own = turn.get(self._worker)
        said = {partition for at in turn.values() for partition in at}
        missing = {
            str(partition): max(offset, since.get(str(partition), 0))
            for partition, offset in sorted(positions.items())
            if own is None or str(partition) not in said
        }
        if not missing:
            return []
        return [Activated(version, stage, self._worker, {**(own or {}), **missing})]
